"""The pairs of one picture file: decoded, shrunk and degraded, each only where the store does not hold it already."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.degrade import imresize
from sr_deploy.errors import InputError
from sr_deploy.notes import NOTES
from sr_deploy.planes import read_rgb, read_studio_luma, read_unrounded_luma
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hr_lr import Listed, common_size
from sr_deploy.train.data.pairs import Degradation, Pair, Planes, Positions, Raster, positions
from sr_deploy.train.data.store import Facts, Store

Found = tuple[int, Pair, Facts]
"""A scale, the pair of a picture at it, and what decides the pair's content."""


def usable_pairs(picture: Listed, config: DataConfig, store: Store) -> list[Found]:
    """Return the pairs of a picture; one that does not decode or holds no patch is named in a warning and has none."""
    try:
        return Picture(picture, config, store).pairs()
    except InputError as err:
        NOTES.warning(f"left out: {err}")
        return []


class Picture:
    """One picture file, with its low-resolution pictures where those are given."""

    def __init__(self, listed: Listed, config: DataConfig, store: Store) -> None:
        self.path, self.lr, self.config, self.store = listed.hr, listed.lr, config, store
        self.name = store.identify(self.path)

    def pairs(self) -> list[Found]:
        """Return its pairs, at every size and scale at which it holds a patch.

        Raises:
            InputError: it does not decode, or holds no patch.
        """
        found = []
        for factor in self.config.shrink:
            facts: Facts = (self.name, factor, self.config.colors)
            original = self.store.keep(("original", *facts), partial(self._original, factor))
            for scale in dict.fromkeys(self.config.scales):
                if min(n - n % scale for n in original.shape[1:]) >= self.config.side(scale):
                    found += self._at(scale, original, facts)
        if not found:
            h, w = self._decoded.shape[1:]
            side = min(self.config.side(scale) for scale in self.config.scales)
            raise InputError(f"{self.path}: {w}x{h} pixels is smaller than a {side}x{side} patch")
        return found

    @cached_property
    def _decoded(self) -> Planes:
        return read_planes(self.path, self.config.colors)

    def _original(self, factor: float) -> NDArray[np.uint8]:
        planes = self._decoded
        if factor != 1.0:
            planes = np.clip(np.rint(np.stack([imresize(plane, factor) for plane in planes])), 0, 255)
        return planes.astype(np.uint8)

    def _at(self, scale: int, original: Raster, facts: Facts) -> list[Found]:
        made = Degradation(original, scale)
        facts = ("degraded", *facts, scale, self.config.upscale)
        if scale in self.lr:
            made = Given(original, scale, self.lr[scale], self.path)
            facts = (*facts, self.store.identify(self.lr[scale]))
        degraded = self.store.keep(facts, partial(made.given, self.config.upscale))
        h, w = (n * self.config.step(scale) for n in degraded.shape[1:])
        if min(h, w) < self.config.side(scale):
            return []
        return [(scale, Pair(degraded, original, (h, w), self._positions(made, (h, w), facts)), facts)]

    def _positions(self, made: Degradation, size: tuple[int, int], facts: Facts) -> Positions:
        side, detail = self.config.side(made.scale), self.config.detail
        found = positions(size, side)
        if detail == 0.0:
            return found
        weights = self.store.keep(("weights", *facts, side, detail), partial(made.running_weights, side, detail))
        return Positions(found.rows, found.columns, weights)


class Given(Degradation):
    """A degradation that somebody else made: a low-resolution picture from a file."""

    def __init__(self, original: Raster, scale: int, lr: Path, hr: Path) -> None:
        super().__init__(original, scale)
        self.lr, self.path = lr, hr

    @cached_property
    def small(self) -> Planes:
        """The picture in the file, cut to what the original holds of it: float32 (c, h, w)."""
        c, *size = self.original.shape
        planes = read_planes(self.lr, c, unrounded=True)
        h, w = common_size((size[0], size[1]), (planes.shape[1], planes.shape[2]), self.scale, files=(self.path, self.lr))
        return planes[:, :h, :w]

    @cached_property
    def hr(self) -> Planes:
        """The part of the original that the file shows: float32 (c, h, w)."""
        h, w = (n * self.scale for n in self.small.shape[1:])
        return np.asarray(self.original[:, :h, :w], np.float32)


def read_planes(path: Path, colors: int, *, unrounded: bool = False) -> Planes:
    """Return a picture in grey levels, float32 (colors, h, w): studio luma, rounded or not, or full-range R, G, B."""
    if colors == 1:
        return (read_unrounded_luma if unrounded else read_studio_luma)(path)[None]
    return np.ascontiguousarray(np.moveaxis(read_rgb(path), -1, 0), np.float32)

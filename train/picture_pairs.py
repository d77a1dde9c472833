"""The pairs of one picture file: decoded, shrunk and degraded, each only where the store does not hold it already."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.degrade import imresize
from sr_deploy.errors import InputError
from sr_deploy.pictures import read_rgb, read_studio_luma
from sr_deploy.train.data_config import DataConfig
from sr_deploy.train.pairs import Degradation, Pair, Planes, Positions, Raster, positions
from sr_deploy.train.store import Facts, Store

Found = tuple[int, Pair, Facts]
"""A scale, the pair of a picture at it, and what decides the pair's content."""


class Picture:
    """One picture file."""

    def __init__(self, path: Path, config: DataConfig, store: Store) -> None:
        self.path, self.config, self.store = path, config, store
        self.name = store.identify(path)

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
                    found.append((scale, self._pair(original, scale, facts), (*facts, scale)))
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

    def _pair(self, original: Raster, scale: int, facts: Facts) -> Pair:
        h, w = (n - n % scale for n in original.shape[1:])
        made = Degradation(partial(_cropped, original, (h, w)), scale)
        facts = ("degraded", *facts, scale, self.config.upscale)
        degraded = self.store.keep(facts, partial(made.given, self.config.upscale))
        return Pair(degraded, original, (h, w), self._positions(made, (h, w), facts))

    def _positions(self, made: Degradation, size: tuple[int, int], facts: Facts) -> Positions:
        side, detail = self.config.side(made.scale), self.config.detail
        found = positions(size, side)
        if detail == 0.0:
            return found
        weights = self.store.recall(("weights", *facts, side, detail), partial(made.running_weights, side, detail))
        return Positions(found.rows, found.columns, weights)


def read_planes(path: Path, colors: int) -> Planes:
    """Return a picture in whole grey levels, float32 (colors, h, w): studio luma, or full-range R, G, B."""
    if colors == 1:
        return read_studio_luma(path)[None]
    return np.ascontiguousarray(np.moveaxis(read_rgb(path), -1, 0), np.float32)


def _cropped(original: Raster, size: tuple[int, int]) -> Planes:
    return np.asarray(original[:, : size[0], : size[1]], np.float32)

"""Photographs with their originals, on which graphs of one network are compared: what the accuracy guard measures with.

The photographs are not those that thresholds are made from (``calib_data/select`` against ``calib_data/calibrate``). Each is
degraded as ``sr-eval`` does; at most ``limit`` tiles a scale are cut from all of them, evenly chosen, and the squared
errors of the tiles of one picture are pooled, so that a figure is the mean over pictures of their PSNR, as published tables
give it. Both graphs see the same zero padding where a tile is cut, so a drop holds none of it.

Integer graphs run in exact integer arithmetic here, whatever the processor: on x86 without VNNI, ONNX Runtime's fast
kernels saturate 16-bit sums, which would make a decision depend on the machine that made it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from sr_deploy.degrade import Planes, given_size, network_pair
from sr_deploy.errors import InputError
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.photographs import Cut, Held, Photographs
from sr_deploy.files import digest_bytes
from sr_deploy.measure import levels, lost_db, luma_of, psnr_from_error, shaved
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.tiling import batch_at, evenly, tile_corners

LEAST_SIDE = 32  # pixels of a tile's part of a picture that is worth measuring

Place = tuple[str, int, int]
"""A picture's digest, and the row and column of a tile of what the network reads."""

Figures = dict[int, tuple[float, ...]]
"""PSNR in dB of each picture, by scale."""


@dataclass(frozen=True)
class Sample:
    """One tile: what the network reads, float32 (n, c, h, w) in [0, 1], and the original, (h, w) or (3, h, w) in grey levels."""

    scale: int
    picture: str
    tile: Tiles
    original: Planes

    def squared_error(self, output: Tiles) -> tuple[float, int]:
        """Return the sum of squared errors in luma, in grey levels, and the number of pixels; the border is left out."""
        c, h, w = (1, *self.original.shape) if self.original.ndim == 2 else self.original.shape
        made = levels(output[0].reshape(c, *output.shape[2:])[..., :h, :w].reshape(self.original.shape))
        ours, theirs = (shaved(luma_of(planes), self.scale).astype(np.float64) for planes in (made, self.original))
        return float(np.square(ours - theirs).sum()), ours.size


class SelectionSet:
    """Tiles of photographs with what was there, at most ``cut.limit`` at each scale of ``cut``."""

    def __init__(
        self, photographs: Photographs, cut: Cut, *, option: str = "--select", among: Collection[str] | None = None
    ) -> None:
        """Choose the tiles; ``option`` names the folder of the photographs in messages.

        ``among`` leaves out the pictures of other digests before they are decoded.

        Raises:
            InputError: none of them can be used.
        """
        self.photographs, self.cut = photographs, cut
        self.skipped = list(photographs.unreadable)
        self.sizes: dict[str, tuple[int, int]] = {}  # (h, w), by digest
        with progress("reading", len(photographs.paths)) as advance:
            for digest in photographs.paths:
                try:
                    if among is None or digest in among:
                        self.sizes[digest] = photographs.size(digest)
                except InputError as err:
                    self.skipped.append(str(err))
                advance("")
        self.places = {scale: evenly(self._places(scale), cut.limit) for scale in cut.scales}
        empty = [scale for scale, places in self.places.items() if not places]
        if empty:
            reasons = f" ({self.skipped[0]})" if self.skipped else ""
            raise InputError(
                f"{photographs.folder}: no picture that can be measured at x{empty[0]}{reasons}; "
                f"name a folder of photographs with {option}"
            )
        facts = [[scale, self.places[scale]] for scale in self.places]
        self.digest = digest_bytes(json.dumps([facts, list(cut.shape), cut.upscale]).encode())
        self._samples = Held(self._cut, self._bytes())

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales measured at."""
        return tuple(self.places)

    def __len__(self) -> int:
        return sum(len(places) for places in self.places.values())

    def __iter__(self) -> Iterator[Sample]:
        """Yield one tile after another, scale by scale."""
        return iter(self._samples)

    def _cut(self) -> Iterator[Sample]:
        for scale, places in self.places.items():
            current, given, original = "", np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
            for digest, row, column in places:
                if digest != current:
                    current = digest
                    given, original = network_pair(self.photographs.measured(digest), scale, self.cut.upscale)
                    given = given / np.float32(255.0)
                factor = self._factor(scale)
                rows, columns = (
                    slice(start * factor, (start + side) * factor)
                    for start, side in zip((row, column), self.cut.shape[2:], strict=True)
                )
                part = original[..., rows, columns].copy()  # a view would keep the whole picture in memory
                yield Sample(scale, digest, batch_at(given, (row, column), self.cut.shape), part)

    def _places(self, scale: int) -> list[Place]:
        found: list[Place] = []
        for digest in sorted(self.sizes):
            h, w = given_size(self.sizes[digest], scale, self.cut.upscale)
            if min(h, w) * self._factor(scale) >= LEAST_SIDE + 2 * scale:
                found += [(digest, row, column) for row, column in tile_corners((h, w), self.cut.shape[2:])]
        return found

    def _factor(self, scale: int) -> int:
        """Return how many pixels of the original a pixel of the tile is wide."""
        return 1 if self.cut.upscale == "before" else scale

    def _bytes(self) -> int:
        """Return the size of all tiles with their originals."""
        n, c, h, w = self.cut.shape
        return sum(4 * c * h * w * (n + self._factor(scale) ** 2) * len(places) for scale, places in self.places.items())


class Scorer:
    """Adds up squared errors of tiles and tells the PSNR of their pictures."""

    def __init__(self) -> None:
        self.errors: dict[tuple[int, str], float] = {}
        self.pixels: dict[tuple[int, str], int] = {}

    def add(self, sample: Sample, output: Tiles) -> None:
        """Take in what a graph made of a tile."""
        error, pixels = sample.squared_error(output)
        key = sample.scale, sample.picture
        self.errors[key] = self.errors.get(key, 0.0) + error
        self.pixels[key] = self.pixels.get(key, 0) + pixels

    def figures(self) -> Figures:
        """Return the PSNR of each picture by scale."""
        found: dict[int, list[float]] = {}
        for (scale, picture), error in self.errors.items():
            found.setdefault(scale, []).append(psnr_from_error(error / self.pixels[scale, picture]))
        return {scale: tuple(values) for scale, values in found.items()}


def psnr_db(session: ort.InferenceSession, samples: SelectionSet) -> Figures:
    """Return the PSNR of a graph of the shape of ``samples`` on each picture, by scale."""
    scorer = Scorer()
    for sample in samples:
        scorer.add(sample, np.asarray(session.run(None, {INPUT: sample.tile})[0], np.float32))
    return scorer.figures()


def drops_db(figures: Figures, reference: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Return by how many dB the mean PSNR is below that of ``reference``, by scale."""
    return {
        scale: float(np.mean([lost_db(*pair) for pair in zip(reference[scale], values, strict=True)]))
        for scale, values in figures.items()
    }

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
from pathlib import Path

import numpy as np
import onnx

from sr_deploy.card import Shape
from sr_deploy.degrade import Color, Planes, Upscale, given_size, network_pair
from sr_deploy.errors import InputError
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.suffix import at_shape
from sr_deploy.files import digest_bytes, list_pictures, read_bytes
from sr_deploy.measure import levels, luma_of, psnr_from_error, shaved
from sr_deploy.planes import read_measured
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import CPU, Tiles
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.runtime.upscaling.tiling import batch_at, evenly, tile_corners

LEAST_ERROR = 1e-9  # a flat tile may be met exactly
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
    """Tiles of photographs at every scale, with what was there."""

    def __init__(
        self,
        folder: Path,
        *,
        scales: Sequence[int],
        shape: Shape,
        limit: int,
        upscale: Upscale,
        option: str = "--select",
        among: Collection[str] | None = None,
    ) -> None:
        """List the pictures of ``folder``, named by ``option``, and choose at most ``limit`` tiles for each of ``scales``.

        ``among`` leaves out the pictures of other digests before they are decoded.

        Raises:
            InputError: none of them can be used.
        """
        self.folder, self.shape, self.upscale = folder, shape, upscale
        self.color: Color = "rgb" if shape[1] == 3 else "y"
        self.skipped: list[str] = []
        self.paths: dict[str, Path] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # (h, w)
        paths = list_pictures(folder)
        with progress("reading", len(paths)) as advance:
            for path in paths:
                try:
                    digest = digest_bytes(read_bytes(path, advice="check the folder"))
                    if among is None or digest in among:
                        h, w = read_measured(path, self.color).shape[-2:]
                        self.paths[digest], self.sizes[digest] = path, (h, w)
                except InputError as err:
                    self.skipped.append(str(err))
                advance("")
        self.places = {scale: evenly(self._places(scale), limit) for scale in scales}
        empty = [scale for scale, places in self.places.items() if not places]
        if empty:
            reasons = f" ({self.skipped[0]})" if self.skipped else ""
            raise InputError(
                f"{folder}: no picture that can be measured at x{empty[0]}{reasons}; name a folder of photographs with {option}"
            )
        facts = [[scale, self.places[scale]] for scale in self.places]
        self.digest = digest_bytes(json.dumps([facts, list(shape), upscale]).encode())

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales measured at."""
        return tuple(self.places)

    def __len__(self) -> int:
        return sum(len(places) for places in self.places.values())

    def __iter__(self) -> Iterator[Sample]:
        """Yield one tile after another; a picture is read once a scale."""
        for scale, places in self.places.items():
            current, given, original = "", np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
            for digest, row, column in places:
                if digest != current:
                    current = digest
                    given, original = network_pair(read_measured(self.paths[digest], self.color), scale, self.upscale)
                    given = given / np.float32(255.0)
                factor = 1 if self.upscale == "before" else scale
                rows, columns = (
                    slice(start * factor, (start + side) * factor)
                    for start, side in zip((row, column), self.shape[2:], strict=True)
                )
                part = original[..., rows, columns].copy()  # a view would keep the whole picture in memory
                yield Sample(scale, digest, batch_at(given, (row, column), self.shape), part)

    def _places(self, scale: int) -> list[Place]:
        factor = 1 if self.upscale == "before" else scale
        found: list[Place] = []
        for digest in sorted(self.paths):
            h, w = given_size(self.sizes[digest], scale, self.upscale)
            if min(h, w) * factor >= LEAST_SIDE + 2 * scale:
                found += [(digest, row, column) for row, column in tile_corners((h, w), self.shape[2:])]
        return found


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
        """Return the PSNR of each picture by scale; minus infinity where an output was no finite number."""
        found: dict[int, list[float]] = {}
        for (scale, picture), error in self.errors.items():
            found.setdefault(scale, []).append(psnr_from_error(max(error, LEAST_ERROR) / self.pixels[scale, picture]))
        return {scale: tuple(values) for scale, values in found.items()}


def psnr_db(model: onnx.ModelProto, samples: SelectionSet, *, threads: int | None = None) -> Figures:
    """Return the PSNR of a graph, run at the shape of ``samples``, on each picture, by scale."""
    session = open_session(at_shape(model, samples.shape).SerializeToString(), [CPU], threads, exact=True)
    scorer = Scorer()
    for sample in samples:
        scorer.add(sample, np.asarray(session.run(None, {INPUT: sample.tile})[0], np.float32))
    return scorer.figures()


def drops_db(figures: Figures, reference: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Return by how many dB the mean PSNR is below that of ``reference``, by scale."""
    return {scale: float(np.mean(reference[scale]) - np.mean(values)) for scale, values in figures.items()}

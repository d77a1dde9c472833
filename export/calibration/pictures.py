"""Photographs as the tiles that a graph is calibrated on: degraded as the network reads them, evenly chosen.

Pictures are ordered by the digest of their file, so the listing's order, the files' names and the number of threads do not
change a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sr_deploy.card import Shape
from sr_deploy.degrade import Color, Planes, Upscale, given_size, network_pair
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes, list_pictures, read_bytes
from sr_deploy.planes import read_seen
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.tiling import batch_at, evenly, tile_corners


class CalibrationSet:
    """Tiles of photographs, degraded at each of ``scales``; at most ``limit`` of them in all, evenly chosen."""

    def __init__(self, folder: Path, *, scales: Sequence[int], shape: Shape, limit: int, upscale: Upscale = "before") -> None:
        """List the pictures of ``folder``.

        Raises:
            InputError: none of them can be used.
        """
        self.folder, self.scales, self.shape, self.upscale = folder, tuple(scales), shape, upscale
        self.color: Color = "rgb" if shape[1] == 3 else "y"
        self.skipped: list[str] = []
        self.paths: dict[str, Path] = {}
        for path in list_pictures(folder):
            try:
                self.paths[digest_bytes(read_bytes(path, advice="check the folder"))] = path
            except InputError as err:
                self.skipped.append(str(err))
        places: list[tuple[str, int, int, int]] = []
        # Of more pictures than tiles, some are left out before any is decoded.
        digests = evenly(sorted(self.paths), limit)
        with progress("reading", len(digests)) as advance:
            for digest in digests:
                try:
                    h, w = self._seen(self.paths[digest]).shape[-2:]
                    for scale in self.scales:
                        if min(h, w) < 2 * scale:
                            raise InputError(f"{self.paths[digest]}: {w}x{h} pixels is too small for scale {scale}")
                        size = given_size((h, w), scale, upscale)
                        places += [(digest, scale, row, column) for row, column in tile_corners(size, shape[2:])]
                except InputError as err:
                    self.skipped.append(str(err))
                advance("")
        if not places:
            reasons = f" ({self.skipped[0]})" if self.skipped else ""
            raise InputError(f"{folder}: no usable picture to calibrate on{reasons}; name a folder of photographs with --calib")
        self.places = evenly(places, limit)
        facts = json.dumps([self.scales, list(shape), self.places, *([] if upscale == "before" else [upscale])])
        self.digest = digest_bytes(facts.encode())

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Tiles]:
        """Yield one tile after another: the degraded picture as the network reads it, float32 (n, c, h, w) in [0, 1], n times."""
        return self.some(len(self.places))

    def some(self, count: int) -> Iterator[Tiles]:
        """Yield at most ``count`` of the tiles, evenly chosen."""
        current, seen, planes = ("", 0), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        for digest, scale, row, column in evenly(self.places, count):
            if digest != current[0]:
                seen = self._seen(self.paths[digest])
            if (digest, scale) != current:
                current, planes = (digest, scale), network_pair(seen, scale, self.upscale)[0] / np.float32(255.0)
            yield batch_at(planes, (row, column), self.shape)

    def _seen(self, path: Path) -> Planes:
        return read_seen(path, self.color)

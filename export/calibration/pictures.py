"""Photographs as the tiles that a graph is calibrated on: degraded as the network reads them, evenly chosen.

Pictures are ordered by the digest of their file, so the listing's order, the files' names and the number of threads do not
change a threshold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np

from sr_deploy.degrade import given_size, network_pair
from sr_deploy.errors import InputError
from sr_deploy.export.photographs import Cut, Held, Photographs
from sr_deploy.files import digest_bytes
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.tiling import batch_at, evenly, tile_corners

Place = tuple[str, int, int, int]
"""A photograph's digest, the scale, and the row and column of a tile of what the network reads."""


class CalibrationSet:
    """Tiles of photographs, degraded at each scale of ``cut``; at most ``cut.limit`` of them in all, evenly chosen."""

    def __init__(self, photographs: Photographs, cut: Cut) -> None:
        """Choose the tiles.

        Raises:
            InputError: none of the photographs can be used.
        """
        self.photographs, self.cut = photographs, cut
        self.skipped = list(photographs.unreadable)
        places: list[Place] = []
        # Of more pictures than tiles, some are left out before any is decoded.
        digests = evenly(sorted(photographs.paths), cut.limit)
        with progress("reading", len(digests)) as advance:
            for digest in digests:
                try:
                    places += self._places(digest)
                except InputError as err:
                    self.skipped.append(str(err))
                advance("")
        if not places:
            reasons = f" ({self.skipped[0]})" if self.skipped else ""
            raise InputError(
                f"{photographs.folder}: no usable picture to calibrate on{reasons}; name a folder of photographs with --calib"
            )
        self.places = evenly(places, cut.limit)
        facts = json.dumps([cut.scales, list(cut.shape), self.places, *([] if cut.upscale == "before" else [cut.upscale])])
        self.digest = digest_bytes(facts.encode())
        self._tiles = Held(lambda: self._cut(self.places), 4 * math.prod(cut.shape) * len(self.places))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Tiles]:
        """Yield one tile after another: the degraded picture as the network reads it, float32 (n, c, h, w) in [0, 1], n times."""
        return iter(self._tiles)

    def some(self, count: int) -> Iterator[Tiles]:
        """Yield at most ``count`` of the tiles, evenly chosen."""
        held = self._tiles.items
        return self._cut(evenly(self.places, count)) if held is None else iter(evenly(held, count))

    def _places(self, digest: str) -> list[Place]:
        h, w = self.photographs.size(digest)
        found: list[Place] = []
        for scale in self.cut.scales:
            if min(h, w) < 2 * scale:
                raise InputError(f"{self.photographs.paths[digest]}: {w}x{h} pixels is too small for scale {scale}")
            size = given_size((h, w), scale, self.cut.upscale)
            found += [(digest, scale, row, column) for row, column in tile_corners(size, self.cut.shape[2:])]
        return found

    def _cut(self, places: Sequence[Place]) -> Iterator[Tiles]:
        current, planes = ("", 0), np.zeros((0, 0), np.float32)
        for digest, scale, row, column in places:
            if (digest, scale) != current:
                seen = self.photographs.seen(digest)
                current, planes = (digest, scale), network_pair(seen, scale, self.cut.upscale)[0] / np.float32(255.0)
            yield batch_at(planes, (row, column), self.cut.shape)

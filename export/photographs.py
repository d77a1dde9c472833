"""Photographs that tiles are cut from, known by the digest of their file, and decoded once as long as they fit into memory.

Calibration, refinement, sensitivity and the guard look at the same photographs at several scales and tile sizes. So what is
decoded is held, as one byte a sample, up to ``HELD_BYTES`` a folder; a photograph beyond that is decoded each time. Tiles that a
set has cut are held likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import Shape
from sr_deploy.degrade import Color, Planes, Upscale
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes, list_pictures, read_bytes
from sr_deploy.luma import luma_from_rgb
from sr_deploy.pictures import open_picture
from sr_deploy.planes import is_grey, rgb_pixels

HELD_BYTES = 2**28

Item = TypeVar("Item")


@dataclass(frozen=True)
class Cut:
    """How tiles are cut from photographs."""

    scales: tuple[int, ...]  # that photographs are degraded at
    shape: Shape  # of a tile as the graph reads it, (n, c, h, w)
    limit: int  # tiles at most
    upscale: Upscale = "before"

    @property
    def color(self) -> Color:
        """What a graph of this shape enlarges."""
        return "rgb" if self.shape[1] == 3 else "y"


@dataclass(frozen=True)
class _Decoded:
    """A photograph as uint8: (3, h, w) in RGB; (h, w) in luma, of a grey one its samples as they are."""

    pixels: NDArray[np.uint8]
    grey: bool


class Photographs:
    """The pictures in a folder, in the colours that one network sees."""

    def __init__(self, folder: Path, color: Color) -> None:
        """List the pictures of ``folder``; none is decoded yet.

        Raises:
            InputError: there is none.
        """
        self.folder, self.color = folder, color
        self.paths: dict[str, Path] = {}  # by digest: a copy counts once
        self.unreadable: list[str] = []
        self._held: dict[str, _Decoded] = {}
        self._bytes = 0
        for path in list_pictures(folder):
            try:
                self.paths[digest_bytes(read_bytes(path, advice="check the folder"))] = path
            except InputError as err:
                self.unreadable.append(str(err))

    def size(self, digest: str) -> tuple[int, int]:
        """Return (h, w).

        Raises:
            InputError: the picture cannot be decoded.
        """
        h, w = self._decoded(digest).pixels.shape[-2:]
        return h, w

    def seen(self, digest: str) -> Planes:
        """Return what a network sees in use, as :func:`sr_deploy.planes.read_seen` does.

        Raises:
            InputError: the picture cannot be decoded.
        """
        found = self._decoded(digest)
        if self.color == "y" and found.grey:  # its RGB copy, as sr-infer treats it
            return np.rint(luma_from_rgb(np.repeat(found.pixels[..., None], 3, axis=2)))
        return found.pixels.astype(np.float32)

    def measured(self, digest: str) -> Planes:
        """Return what a network is measured against, as :func:`sr_deploy.planes.read_measured` does.

        Raises:
            InputError: the picture cannot be decoded.
        """
        return self._decoded(digest).pixels.astype(np.float32)

    def _decoded(self, digest: str) -> _Decoded:
        found = self._held.get(digest) or self._decode(self.paths[digest])
        if digest not in self._held and self._bytes + found.pixels.nbytes <= HELD_BYTES:
            self._held[digest] = found
            self._bytes += found.pixels.nbytes
        return found

    def _decode(self, path: Path) -> _Decoded:
        image = open_picture(path)
        if self.color == "rgb":
            return _Decoded(np.ascontiguousarray(np.moveaxis(rgb_pixels(image), -1, 0)), False)
        if is_grey(image):
            return _Decoded(np.asarray(image.convert("L")), True)
        return _Decoded(np.rint(luma_from_rgb(rgb_pixels(image))).astype(np.uint8), False)


class Held(Generic[Item]):
    """What an iteration makes, held for the next ones where all of it together takes at most ``HELD_BYTES``."""

    def __init__(self, make: Callable[[], Iterator[Item]], size: int) -> None:
        """Hold what ``make`` makes again each time; ``size`` is the bytes of all of it."""
        self.make, self.size = make, size
        self.items: list[Item] | None = None

    def __iter__(self) -> Iterator[Item]:
        if self.items is not None:
            yield from self.items
            return
        found: list[Item] = []
        for item in self.make():
            if self.size <= HELD_BYTES:
                found.append(item)
            yield item
        self.items = found if self.size <= HELD_BYTES else None

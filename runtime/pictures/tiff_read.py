"""TIFF files whose samples Pillow cuts to 8 bits or does not know: what their directories say.

Numbers of tags and their values are those of TIFF 6.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError
from sr_deploy.pictures import Reading, check_declared, quiet

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
WIDEST = 32  # bytes of a pixel, four channels of 64 bits, that count as one against the limit of pixels
COMPRESSIONS = (1, 5, 8, 32946, 32773)  # none, LZW, Deflate and its older number, PackBits
LAB = 8  # a photometric interpretation
DEEP = (16, 32, 64)
KINDS = {1: "u", 2: "i", 3: "f"}  # of sample format


@dataclass(frozen=True)
class Layout:
    """How one page of a TIFF file lies in it."""

    height: int
    width: int
    channels: int
    bits: int
    kind: str  # u, i or f
    photometric: int
    extra: tuple[int, ...]  # what the channels beyond colour are: 0 unknown, 1 alpha multiplied in, 2 alpha
    compression: int
    predictor: int
    separate: bool  # each channel for itself
    tile: tuple[int, int] | None  # (h, w)
    rows: int  # of a strip or tile
    offsets: tuple[int, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the samples."""
        return np.dtype(f"{self.kind}{self.bits // 8}")

    @property
    def nbytes(self) -> int:
        """Bytes of the samples, those of channels that show nothing among them."""
        down, across = self.tile or (1, 1)  # tiles at the borders are whole
        return -(-self.height // down) * down * -(-self.width // across) * across * self.channels * self.bits // 8

    def check(self, path: Path, reading: Reading, *, area: int | None = None) -> None:
        """Check what the page declares, ``area`` pixels together with the pages before it.

        Raises:
            InputError: more pixels than the limit, or more bytes than so many pixels of ``WIDEST``.
        """
        check_declared(path, (self.width, self.height), reading, area=area)
        if self.nbytes > WIDEST * reading.max_pixels:
            what = f"{self.width}x{self.height} pixels of {self.channels} channels of {self.bits} bits, {self.nbytes} bytes"
            limit = f"the limit is {WIDEST * reading.max_pixels}"
            raise InputError(f"{path}: declares {what}, {limit}; leave channels out, or see sr-infer --max-pixels")


def is_tiff(stream: BinaryIO) -> bool:
    """Return whether the file begins as a TIFF does; it is read from its beginning again afterwards."""
    head = stream.read(4)
    stream.seek(0)
    return head in MAGIC


def pages_of(stream: BinaryIO) -> Iterator[ImageFileDirectory_v2]:
    """Yield the tags of each page of a TIFF file; a loop of pages ends."""
    header = stream.read(8)
    if header[2:4] in (b"+\0", b"\0+"):
        header += stream.read(8)
    seen: set[int] = set()
    following = ImageFileDirectory_v2(header).next
    while following and following not in seen:
        seen.add(following)
        tags = ImageFileDirectory_v2(header)
        stream.seek(following)
        with quiet():
            tags.load(stream)
        following = tags.next
        yield tags


def layout_of(tags: ImageFileDirectory_v2, depths: tuple[int, ...] = DEEP) -> Layout | None:
    """Return how a page lies in its file, where it is one for this module: of one of ``depths``, no palette and no CMYK.

    So is a page of signed samples, which Pillow takes for unsigned ones.
    """
    bits = set(many(tags.get(258, 1)))
    kinds = {KINDS.get(number, "") for number in many(tags.get(339, 1))}
    channels, photometric = int(tags.get(277, 1)), int(tags.get(262, 1 if int(tags.get(277, 1)) < 3 else 2))
    known = len(bits) == 1 and len(kinds) == 1 and (bits <= {*depths} or (bits == {8} and kinds == {"i"} and photometric != LAB))
    known = known and photometric in (0, 1, 2, LAB) and int(tags.get(259, 1)) in COMPRESSIONS
    if not known or int(tags.get(266, 1)) != 1 or not (256 in tags and 257 in tags):
        return None
    tiled = 322 in tags
    height, width = int(tags[257]), int(tags[256])
    tile = (int(tags[323]), int(tags[322])) if tiled else None
    return Layout(
        height=height,
        width=width,
        channels=channels,
        bits=bits.pop(),
        kind=kinds.pop(),
        photometric=photometric,
        extra=many(tags.get(338, ())),
        compression=int(tags.get(259, 1)),
        predictor=int(tags.get(317, 1)),
        separate=int(tags.get(284, 1)) == 2,
        tile=tile,
        rows=tile[0] if tile else min(int(tags.get(278, height)), height),
        offsets=many(tags.get(324 if tiled else 273, ())),
        counts=many(tags.get(325 if tiled else 279, ())),
    )


def many(value: object) -> tuple[int, ...]:
    """Return the numbers of a tag, of which Pillow gives one alone where there is one."""
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(str(value)),)


def ends_early(tags: ImageFileDirectory_v2, size: int) -> bool:
    """Return whether a file of ``size`` bytes lacks some of a page's strips or tiles: libvips would make them black."""
    starts, counts = (many(tags.get(tiles, tags.get(strips, ()))) for tiles, strips in ((324, 273), (325, 279)))
    return any(start + count > size for start, count in zip(starts, counts, strict=False))

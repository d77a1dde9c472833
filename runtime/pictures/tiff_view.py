"""A page of a TIFF file as libvips reads every kind of sample right: with a directory of our own behind the file.

libvips 8.18 knows no samples of 64 bits, mixes up channels that are stored apart, and multiplies, inverts and divides samples by
rules of its own. So the directory shows it plain channels: those that are stored apart one at a time, and 64 bits as eight
channels of bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.pictures.tiff_read import Layout

FORMATS = {"u": 1, "i": 2, "f": 3}
Entries = Mapping[int, tuple[int, ...]]
"""Values of a directory by tag."""


def directory(entries: Entries, place: int, *, order: str = "<", big: bool = True) -> bytes:
    """Return a directory that will lie at ``place``, with its values behind it."""
    size, each, code, kind = (8, 20, "Q", 16) if big else (4, 12, "I", 4)
    start = struct.pack(order + ("Q" if big else "H"), len(entries))
    behind = place + len(start) + each * len(entries) + size
    table, values = b"", b""
    for tag, held in sorted(entries.items()):
        raw = struct.pack(f"{order}{len(held)}{code}", *held)
        if len(raw) != size:
            raw, values = struct.pack(order + code, behind + len(values)), values + raw
        table += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(held)) + raw
    return start + table + bytes(size) + values


def plain_entries(size: tuple[int, int, int], dtype: np.dtype[np.generic]) -> dict[int, tuple[int, ...]]:
    """Return the entries for (h, w, c) samples side by side; how they are cut and where they lie comes to them."""
    h, w, c = size
    bits = (8 * dtype.itemsize,) * c
    found = {256: (w,), 257: (h,), 258: bits, 262: (1,), 277: (c,), 284: (1,), 339: (FORMATS[dtype.kind],) * c}
    return found | ({338: (0,) * (c - 1)} if c > 1 else {})


def views_of(layout: Layout) -> list[dict[int, tuple[int, ...]]]:
    """Return the directories that show a page: one, or one for each channel."""
    inside = 1 if layout.separate else layout.channels
    step = layout.tile[1] if layout.tile else layout.width
    octets = layout.bits == 64
    width = -(-layout.width // step) * step if octets else layout.width  # the bytes of a predictor go over all of a tile
    dtype = np.dtype(np.uint8) if octets else layout.dtype
    shown = plain_entries((layout.height, width, inside * (8 if octets else 1)), dtype)
    shown |= {259: (layout.compression,)} | ({} if octets else {317: (layout.predictor,)})
    shown |= {322: (step,), 323: (layout.rows,)} if layout.tile else {278: (layout.rows,)}
    numbers, planes = (324, 325) if layout.tile else (273, 279), layout.channels // inside
    count = len(layout.offsets) // planes
    parts = [slice(count * plane, count * (plane + 1)) for plane in range(planes)]
    return [shown | {numbers[0]: layout.offsets[part], numbers[1]: layout.counts[part]} for part in parts]


class View:
    """The bytes of a TIFF file with another directory."""

    def __init__(self, stream: BinaryIO, entries: Entries, *, padding: int = 0) -> None:
        """Make the directory.

        Args:
            stream: the file, which is read wherever its position is.
            entries: of the directory.
            padding: zeros behind the file, so that its last strip is decoded as far as it goes.
        """
        self.file, self.place = stream.fileno(), 0
        start = os.pread(self.file, 16, 0)
        self.order, big = "<" if start[:2] == b"II" else ">", start[2:4] in (b"+\0", b"\0+")
        self.size = os.fstat(self.file).st_size
        self.end = (self.size + padding + 7) // 8 * 8
        there = struct.pack(self.order + ("Q" if big else "I"), self.end)
        self.start = start[: 8 if big else 4] + there
        self.behind = directory(entries, self.end, order=self.order, big=big)

    def read(self, count: int) -> bytes:
        """Return some of the next ``count`` bytes, none at the end or where the file cannot be read."""
        at = self.place
        try:
            if at < len(self.start):
                found = self.start[at : at + count]
            elif at < self.size:
                found = os.pread(self.file, min(count, self.size - at), at)
            elif at < self.end:
                found = bytes(min(count, self.end - at))
            else:
                found = self.behind[at - self.end : at - self.end + count]
        except OSError:  # decoding ends
            return b""
        self.place += len(found)
        return found

    def seek(self, offset: int, whence: int) -> int:
        """Set and return the position."""
        self.place = offset + (0, self.place, self.end + len(self.behind))[whence]
        return self.place


def samples_from_octets(octets: NDArray[np.uint8], layout: Layout, order: str) -> NDArray[np.generic]:
    """Return samples of 64 bits, (h, w, c), from their bytes in the file, (h, whole tiles, 8 c), differences along rows undone.

    Predictor 3 is that of Adobe's technical note 3 (2005).
    """
    step = layout.tile[1] if layout.tile else layout.width
    words = np.dtype(f"{order}{layout.kind}8")
    parts = [octets[:, left : left + step] for left in range(0, octets.shape[1], step)]
    found = []
    for part in map(np.ascontiguousarray, parts):
        h, w, c = len(part), part.shape[1], part.shape[2] // 8
        values: NDArray[np.generic] = part.view(words)
        if layout.predictor == 2 and layout.compression != 1:
            values = np.cumsum(part.view(f"{order}u8"), axis=1, dtype=np.uint64).view(layout.dtype)
        elif layout.predictor == 3 and layout.compression != 1:
            planes = np.cumsum(part.reshape(h, w * 8, c), axis=1, dtype=np.uint8).reshape(h, 8, w * c)
            values = np.ascontiguousarray(np.moveaxis(planes, 1, 2)).view(">f8").reshape(h, w, c)
        found.append(values)
    return np.concatenate(found, axis=1)[:, : layout.width]

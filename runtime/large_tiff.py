"""TIFF files written by rows: deflated strips as they come, and the directory behind them; BigTIFF where 4 GiB may not do.

TIFF 6.0 for the tags and the horizontal predictor, Adobe's technical notes for compression 8 (zlib), libtiff's BigTIFF design for
64-bit offsets.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from sr_deploy.runtime.large_rows import Samples
from sr_deploy.runtime.large_saving import Saving

LEVEL = 2  # of compression: 1 is fastest, 9 smallest
STRIP_BYTES = 2**20  # about, before compression
CLASSIC_BYTES = 2**32 - 2**28  # uncompressed; what is larger gets 64-bit offsets
SHORT, LONG, UNDEFINED, LONG8 = 3, 4, 7, 16  # types of tags
CODES = {SHORT: "H", LONG: "I", LONG8: "Q"}


class TiffWriter:
    """Takes the rows of one picture and writes a TIFF file with its profile."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[np.generic], saving: Saving) -> None:
        """Write the header.

        Args:
            stream: open for writing, seekable, at its beginning.
            shape: (h, w, c) of the whole picture.
            dtype: uint8 or uint16.
            saving: profile.

        Raises:
            OSError: the stream cannot be written.
        """
        self.stream, self.shape, self.saving, self.depth = stream, shape, saving, dtype.itemsize
        row_bytes = shape[1] * shape[2] * dtype.itemsize
        self.big = row_bytes * shape[0] > CLASSIC_BYTES
        self.strip_rows = max(1, min(STRIP_BYTES // row_bytes, shape[0]))
        self.waiting: list[Samples] = []  # rows that do not fill a strip yet
        self.offsets: list[int] = []
        self.counts: list[int] = []
        stream.write(b"II+\0\x08\0\0\0" + bytes(8) if self.big else b"II*\0" + bytes(4))
        self.at = 16 if self.big else 8

    def write(self, rows: Samples) -> None:
        """Write the rows that come next, (n, w, c), as far as they fill strips.

        Raises:
            OSError: the stream cannot be written.
        """
        self.waiting.append(rows)
        count = sum(map(len, self.waiting))
        if count < self.strip_rows:
            return
        joined = np.concatenate(self.waiting)
        whole = count - count % self.strip_rows
        for top in range(0, whole, self.strip_rows):
            self._strip(joined[top : top + self.strip_rows])
        self.waiting = [joined[whole:].copy()]

    def close(self) -> None:
        """Write the last rows and the directory; the stream stays open.

        Raises:
            OSError: the stream cannot be written.
        """
        rest = np.concatenate(self.waiting)
        if len(rest):
            self._strip(rest)
        self._write(bytes(self.at % 2))  # a directory begins at an even byte
        start = self.at
        self._write(directory(self._tags(), start, big=self.big))
        self.stream.seek(8 if self.big else 4)
        self.stream.write(struct.pack("<Q" if self.big else "<I", start))
        self.stream.seek(self.at)

    def _strip(self, rows: Samples) -> None:
        values = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
        values[:, 1:] -= rows[:, :-1]  # horizontal differencing, TIFF 6.0 section 14
        data = zlib.compress(values.data, LEVEL)
        self.offsets.append(self.at)
        self.counts.append(len(data))
        self._write(data)

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self.at += len(data)

    def _tags(self) -> list[tuple[int, int, list[int] | bytes]]:
        """Return (tag, type, values) in ascending order."""
        height, width, channels = self.shape
        places = LONG8 if self.big else LONG
        tags: list[tuple[int, int, list[int] | bytes]] = [
            (256, LONG, [width]),
            (257, LONG, [height]),
            (258, SHORT, [8 * self.depth] * channels),
            (259, SHORT, [8]),  # zlib
            (262, SHORT, [1 if channels <= 2 else 2]),  # black is zero, or RGB
            (273, places, self.offsets),
            (277, SHORT, [channels]),
            (278, LONG, [self.strip_rows]),
            (279, places, self.counts),
            (284, SHORT, [1]),  # channels side by side
            (317, SHORT, [2]),  # horizontal predictor
        ]
        if channels in (2, 4):
            tags.append((338, SHORT, [2]))  # the last channel is alpha, colours not multiplied by it
        if self.saving.icc_profile:
            tags.append((34675, UNDEFINED, self.saving.icc_profile))
        return tags


def directory(tags: list[tuple[int, int, list[int] | bytes]], start: int, *, big: bool) -> bytes:
    """Return a TIFF directory that lies at byte ``start``, the values that do not fit into it behind it."""
    inline, entry, count_code = (8, 20, "Q") if big else (4, 12, "I")
    head = struct.pack("<Q" if big else "<H", len(tags))
    values_at = start + len(head) + entry * len(tags) + inline
    entries, behind = [], b""
    for tag, kind, values in tags:
        content = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{CODES[kind]}", *values)
        place = content.ljust(inline, b"\0")
        if len(content) > inline:
            place = struct.pack(f"<{count_code}", values_at + len(behind))
            behind += content + bytes(len(content) % 2)
        entries.append(struct.pack(f"<HH{count_code}", tag, kind, len(values)) + place)
    return head + b"".join(entries) + bytes(inline) + behind

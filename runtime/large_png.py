"""PNG files written by rows: filtered, compressed and on their way to the disk before the next rows are made.

Each row takes the filter Sub or Up, whichever leaves the smaller sum of magnitudes (PNG, third edition, 12.7).
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.large_rows import Samples
from sr_deploy.runtime.large_saving import Saving

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # IHDR's, by channels
SUB, UP = 1, 2
LEVEL = 2  # of compression: 1 is fastest, 9 smallest


class PngWriter:
    """Takes the rows of one picture and writes a PNG file with its profile and EXIF."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[np.generic], saving: Saving) -> None:
        """Write the header.

        Args:
            stream: open for writing; it need not be seekable.
            shape: (h, w, c) of the whole picture.
            dtype: uint8 or uint16.
            saving: profile and EXIF.

        Raises:
            OSError: the stream cannot be written.
        """
        height, width, channels = shape
        self.stream, self.step = stream, channels * dtype.itemsize
        self.above: NDArray[np.uint8] = np.zeros(width * self.step, np.uint8)
        self.packed = zlib.compressobj(LEVEL)
        stream.write(SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, COLOR_TYPES[channels], 0, 0, 0))
        if saving.icc_profile:
            self._chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(saving.icc_profile))
        if saving.exif:
            self._chunk(b"eXIf", saving.exif.removeprefix(b"Exif\0\0"))

    def write(self, rows: Samples) -> None:
        """Write the rows that come next, (n, w, c).

        Raises:
            OSError: the stream cannot be written.
        """
        data = self.packed.compress(self._filtered(rows).data)
        if data:
            self._chunk(b"IDAT", data)

    def close(self) -> None:
        """Write the end of the file; the stream stays open.

        Raises:
            OSError: the stream cannot be written.
        """
        self._chunk(b"IDAT", self.packed.flush())
        self._chunk(b"IEND", b"")

    def _filtered(self, rows: Samples) -> NDArray[np.uint8]:
        big_endian = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">"))
        raw = big_endian.view(np.uint8).reshape(len(rows), -1)
        up = np.empty_like(raw)
        np.subtract(raw[0], self.above, out=up[0])
        np.subtract(raw[1:], raw[:-1], out=up[1:])
        self.above = raw[-1].copy()
        sub = raw.copy()
        sub[:, self.step :] -= raw[:, : -self.step]
        found = np.empty((len(raw), 1 + raw.shape[1]), np.uint8)
        chosen = magnitudes(sub) <= magnitudes(up)
        found[:, 0] = np.where(chosen, SUB, UP)
        found[:, 1:] = np.where(chosen[:, None], sub, up)
        return found

    def _chunk(self, name: bytes, body: bytes) -> None:
        self.stream.write(struct.pack(">I", len(body)) + name)
        self.stream.write(body)
        self.stream.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))


def magnitudes(filtered: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum of magnitudes of each row of differences, which are taken as signed bytes."""
    return np.minimum(filtered, np.negative(filtered)).sum(axis=1, dtype=np.int64)

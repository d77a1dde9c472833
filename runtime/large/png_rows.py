"""PNG files written by rows: filtered, compressed and on their way to the disk before the next rows are made.

Each row takes the filter Sub or Up, whichever leaves the smaller sum of magnitudes (PNG, third edition, 12.7).
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.large.saving import Carried
from sr_deploy.runtime.pictures.png_file import COLOUR_TYPES, LEVEL, SIGNATURE, SUB, chunk
from sr_deploy.runtime.pictures.samples import Pixels

UP = 2  # the filter: what a sample adds to the one above it


class PngWriter:
    """Takes the rows of one picture and writes a PNG file with its profile, EXIF and other chunks."""

    def __init__(self, stream: BinaryIO, page: Pixels, carried: Carried) -> None:
        """Write the header.

        Args:
            stream: open for writing; it need not be seekable.
            page: of the shape and type, uint8 or uint16, of the whole result; its values are not looked at.
            carried: profile and chunks.

        Raises:
            OSError: the stream cannot be written.
        """
        height, width, channels = page.shape
        depth = page.dtype.itemsize
        self.stream, self.step = stream, channels * depth
        self.above: NDArray[np.uint8] = np.zeros(width * self.step, np.uint8)
        self.packer = zlib.compressobj(LEVEL)
        head = struct.pack(">IIBBBBB", width, height, 8 * depth, COLOUR_TYPES[channels], 0, 0, 0)
        stream.write(SIGNATURE + chunk(b"IHDR", head))
        if carried.icc_profile:
            stream.write(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(carried.icc_profile)))
        for name, data in carried.chunks:
            stream.write(chunk(name, data))

    def write(self, rows: Pixels) -> None:
        """See :class:`RowWriter`."""
        data = self.packer.compress(self._filtered(rows).data)
        if data:
            self.stream.write(chunk(b"IDAT", data))

    def close(self) -> None:
        """See :class:`RowWriter`."""
        self.stream.write(chunk(b"IDAT", self.packer.flush()) + chunk(b"IEND", b""))

    def _filtered(self, rows: Pixels) -> NDArray[np.uint8]:
        raw = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
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


def magnitudes(filtered: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum of magnitudes of each row of differences, which are taken as signed bytes."""
    found: NDArray[np.int64] = np.minimum(filtered, np.negative(filtered)).sum(axis=1, dtype=np.int64)
    return found

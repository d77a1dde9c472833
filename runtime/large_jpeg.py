"""JPEG files written by rows: bands that Pillow encodes one by one, joined into one picture at restart markers.

Behind a restart marker the decoder starts as at the beginning of a picture, DC predictors at zero (ITU-T T.81, F.1.1.5.1). So a
band of whole MCU rows, encoded as a picture of its own with the same tables, is a piece of the large picture as it is: its
header is left out, its restart markers are numbered on (modulo 8, T.81 B.1.1.3), and the height in the first header is that of
the whole. Every pixel is what encoding the picture at once gives. The Huffman tables are the standard's, because optimized ones
differ from band to band.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from sr_deploy.errors import MachineError
from sr_deploy.runtime.large_rows import Samples
from sr_deploy.runtime.large_saving import Saving

SOF0, SOS, DRI, RST0 = 0xC0, 0xDA, 0xDD, 0xD0
BAND = 64  # rows encoded at once: whole MCUs, whose height is 8 or 16


class JpegWriter:
    """Takes the rows of one picture and writes a baseline JPEG file with its profile and EXIF."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[np.generic], saving: Saving) -> None:
        """Write nothing yet.

        Args:
            stream: open for writing; it need not be seekable.
            shape: (h, w, c) of the whole picture, c 1 or 3, no side above 65500.
            dtype: uint8.
            saving: quality, subsampling, profile and EXIF.
        """
        if dtype != np.uint8 or shape[2] not in (1, 3):
            raise ValueError(f"{dtype} samples in {shape[2]} channels; JPEG holds 8-bit grey or RGB")
        self.stream, self.shape, self.saving = stream, shape, saving
        self.waiting: list[Samples] = []  # rows that do not fill a band yet
        self.markers = 0  # restart markers so far
        self.begun = False

    def write(self, rows: Samples) -> None:
        """Write the rows that come next, (n, w, c), as far as they fill bands.

        Raises:
            OSError: the stream cannot be written.
            MachineError: Pillow is too old.
        """
        self.waiting.append(rows)
        count = sum(map(len, self.waiting))
        if count < BAND:
            return
        joined = np.concatenate(self.waiting)
        whole = count - count % BAND
        for top in range(0, whole, BAND):
            self._band(joined[top : top + BAND])
        self.waiting = [joined[whole:].copy()]

    def close(self) -> None:
        """Write the last rows and the end of the file; the stream stays open.

        Raises:
            OSError: the stream cannot be written.
        """
        rest = np.concatenate(self.waiting)
        if len(rest):
            self._band(rest)
        self.stream.write(b"\xff\xd9")

    def _band(self, rows: Samples) -> None:
        content = BytesIO()
        first = not self.begun
        Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows)).save(
            content,
            format="JPEG",
            quality=self.saving.quality,
            subsampling=self.saving.subsampling,
            restart_marker_rows=1,
            icc_profile=self.saving.icc_profile if first else None,
            exif=self.saving.exif or b"" if first else b"",
        )
        encoded = content.getvalue()
        header, scan = parted(encoded)
        if first:
            self.stream.write(with_height(header, self.shape[0]))
            self.begun = True
        else:
            self.stream.write(bytes((0xFF, RST0 + self.markers % 8)))
            self.markers += 1
        renumbered, count = numbered_on(scan, self.markers)
        self.markers += count
        self.stream.write(renumbered)


def segments(encoded: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, start, end) of every segment of a JPEG up to its first scan's header; ``start`` is that of its length."""
    found, at = [], 2
    while True:
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        found.append((marker, at + 2, at + 2 + length))
        if marker == SOS:
            return found
        at += 2 + length


def parted(encoded: bytes) -> tuple[bytes, bytes]:
    """Return the header and the entropy-coded scan of a baseline JPEG with one scan.

    Raises:
        MachineError: it has no restart interval, as Pillow before 10.2 writes it.
    """
    found = segments(encoded)
    if DRI not in (marker for marker, _, _ in found):
        raise MachineError("Pillow writes no restart markers, which large JPEG files need; pip install 'sr-deploy[large]'")
    end = found[-1][2]
    return encoded[:end], encoded[end:-2]


def with_height(header: bytes, height: int) -> bytes:
    """Return a JPEG's header with another number of lines (SOF0: length, precision, lines, ...; T.81 B.2.2)."""
    start = next(start for marker, start, _ in segments(header) if marker == SOF0)
    return header[: start + 3] + struct.pack(">H", height) + header[start + 5 :]


def numbered_on(scan: bytes, start: int) -> tuple[bytes, int]:
    """Return an entropy-coded scan with its restart markers numbered from ``start``, and how many there are."""
    data = np.frombuffer(scan, np.uint8).copy()
    # a 0xFF that is data is followed by 0x00 (T.81 F.1.2.3), so that only markers match
    at = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] >= RST0) & (data[1:] < RST0 + 8)) + 1
    data[at] = RST0 + (start + np.arange(len(at))) % 8
    return data.tobytes(), len(at)

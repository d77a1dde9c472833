"""JPEG files written by rows: bands that are encoded one by one, joined into one picture at restart markers.

Behind a restart marker the decoder starts as at the beginning of a picture, DC predictors at zero (ITU-T T.81, F.1.1.5.1). So a
band of whole MCU rows, encoded as a picture of its own with the same tables, is a piece of the large picture as it is: its header
is left out, its restart markers are numbered on (modulo 8, T.81 B.1.1.3), and the height in the first header is that of the
whole. Every pixel is what encoding the picture at once gives. The Huffman tables are the standard's, because optimized ones
differ from band to band: files are a few percent larger.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import cv2
import numpy as np

from sr_deploy.runtime.large.saving import Carried
from sr_deploy.runtime.pictures.encode import eight_bits
from sr_deploy.runtime.pictures.jpeg_file import HEADER_END, sampling_of, segments_of
from sr_deploy.runtime.pictures.png_file import swap_
from sr_deploy.runtime.pictures.samples import Pixels

SOF0, SOS, RST0 = 0xC0, 0xDA, 0xD0
BAND = 64  # rows encoded at once: whole MCUs, whose height is 8 or 16


class JpegWriter:
    """Takes the rows of one picture and writes a baseline JPEG file with its profile and EXIF."""

    def __init__(self, stream: BinaryIO, page: Pixels, carried: Carried) -> None:
        """Write nothing yet.

        Args:
            stream: open for writing; it need not be seekable.
            page: of the shape of the whole result, 1 or 3 channels, no side above 65500; its values are not looked at.
            carried: quality, profile and EXIF.
        """
        self.stream, self.carried = stream, carried
        self.height, width, channels = page.shape
        mcu = 16 if channels == 3 and sampling_of(carried.quality) == cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 else 8
        self.interval = -(-width // mcu)  # a restart marker behind each row of MCUs
        self.waiting: list[Pixels] = []  # rows that do not fill a band yet
        self.markers = 0  # restart markers so far
        self.begun = False

    def write(self, rows: Pixels) -> None:
        """See :class:`RowWriter`."""
        self.waiting.append(rows)
        count = sum(map(len, self.waiting))
        if count < BAND:
            return
        joined: Pixels = np.concatenate(self.waiting)
        whole = count - count % BAND
        for top in range(0, whole, BAND):
            self._band(joined[top : top + BAND])
        self.waiting = [joined[whole:].copy()]

    def close(self) -> None:
        """See :class:`RowWriter`."""
        rest: Pixels = np.concatenate(self.waiting)
        if len(rest):
            self._band(rest)
        self.stream.write(b"\xff\xd9")

    def _band(self, rows: Pixels) -> None:
        header, scan = split_scan(self._encoded(rows))
        if self.begun:
            self.stream.write(bytes((0xFF, RST0 + self.markers % 8)))
            self.markers += 1
        else:
            own = segments_of(self.carried.icc_profile, self.carried.exif)
            self.stream.write(with_height(b"".join((header[:HEADER_END], *own, header[HEADER_END:])), self.height))
            self.begun = True
        renumbered, count = renumber(scan, self.markers)
        self.markers += count
        self.stream.write(renumbered)

    def _encoded(self, rows: Pixels) -> bytes:
        ready = np.array(eight_bits(rows), order="C")
        swap_(ready)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.carried.quality, cv2.IMWRITE_JPEG_RST_INTERVAL, self.interval]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling_of(self.carried.quality)]
        try:
            worked, content = cv2.imencode(".jpg", ready, options)
        except cv2.error as err:
            raise MemoryError from err  # a plain array of a size that a JPEG holds: nothing else can be wrong
        if not worked:
            raise MemoryError
        return content.tobytes()


def segments(encoded: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, start, end) of every segment of a JPEG up to its first scan's header; ``start`` is that of its length."""
    found, at = [], 2
    while True:
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        found.append((marker, at + 2, at + 2 + length))
        if marker == SOS:
            return found
        at += 2 + length


def split_scan(encoded: bytes) -> tuple[bytes, bytes]:
    """Return the header and the entropy-coded scan of a baseline JPEG with one scan."""
    end = segments(encoded)[-1][2]
    return encoded[:end], encoded[end:-2]


def with_height(header: bytes, height: int) -> bytes:
    """Return a JPEG's header with another number of lines (SOF0: length, precision, lines, ...; T.81 B.2.2)."""
    start = next(start for marker, start, _ in segments(header) if marker == SOF0)
    return header[: start + 3] + struct.pack(">H", height) + header[start + 5 :]


def renumber(scan: bytes, start: int) -> tuple[bytes, int]:
    """Return an entropy-coded scan with its restart markers numbered from ``start``, and how many there are."""
    data = np.frombuffer(scan, np.uint8).copy()
    # a 0xFF that is data is followed by 0x00 (T.81 F.1.2.3), so that only markers match
    at = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] >= RST0) & (data[1:] < RST0 + 8)) + 1
    data[at] = RST0 + (start + np.arange(len(at))) % 8
    return data.tobytes(), len(at)

"""TIFF files written by rows: deflated strips as they come, and the directory behind them; BigTIFF where 4 GB may not do."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from sr_deploy.runtime.large.saving import Carried
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_write import CLASSIC_END, directory_bytes, exif_entries, pack_strips, page_tags, strip_rows


class TiffWriter:
    """Takes the rows of one picture and writes a TIFF file with its profile and EXIF."""

    def __init__(self, stream: BinaryIO, page: Pixels, carried: Carried) -> None:
        """Write the header.

        Args:
            stream: open for writing, seekable, at its beginning.
            page: of the shape and type of the whole result; its values are not looked at.
            carried: profile and EXIF.

        Raises:
            OSError: the stream cannot be written.
        """
        self.stream, self.page, self.carried = stream, page, carried
        self.big = page.nbytes * 1.01 > CLASSIC_END  # Deflate makes noise a little larger than it was
        self.strip_rows = strip_rows(page)
        self.waiting: list[Pixels] = []  # rows that do not fill a strip yet
        self.starts: list[int] = []
        self.counts: list[int] = []
        self.place = 16 if self.big else 8
        stream.write(bytes(self.place))

    def write(self, rows: Pixels) -> None:
        """See :class:`RowWriter`."""
        self.waiting.append(rows)
        count = sum(map(len, self.waiting))
        if count < self.strip_rows:
            return
        joined: Pixels = np.concatenate(self.waiting)
        whole = count - count % self.strip_rows
        self._strips(joined[:whole])
        self.waiting = [joined[whole:].copy()]

    def close(self) -> None:
        """See :class:`RowWriter`."""
        rest: Pixels = np.concatenate(self.waiting)
        if len(rest):
            self._strips(rest)
        table = page_tags(self.page, self.starts, self.counts, self.carried.icc_profile, self.big)
        if self.carried.exif:
            table = {**exif_entries(self.carried.exif), **table}
        start = self.place
        self.stream.write(directory_bytes(table, start, self.big))
        self.stream.seek(0)
        head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if self.big else struct.pack("<2sHI", b"II", 42, start)
        self.stream.write(head)
        self.stream.seek(0, 2)

    def _strips(self, rows: Pixels) -> None:
        for top in range(0, len(rows), self.strip_rows):
            (strip,) = pack_strips(rows[top : top + self.strip_rows])
            self.starts.append(self.place)
            self.counts.append(len(strip))
            self.stream.write(strip + bytes(len(strip) % 2))
            self.place += len(strip) + len(strip) % 2

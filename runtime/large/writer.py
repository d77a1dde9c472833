"""Results that are written by rows: libvips encodes, in a thread, what comes, and asks for more.

It takes pictures from files alone. So it reads what looks like a TIFF without compression, whose samples are the rows that come.
"""

from __future__ import annotations

import queue
import struct
import threading
from types import TracebackType
from typing import BinaryIO

import numpy as np

from sr_deploy.runtime.pictures.libvips import libvips
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.save import Carried, in_space, save
from sr_deploy.runtime.pictures.tiff_view import directory, plain_entries

STRIP_ROWS = 16
BEGINNING = 16  # bytes of a BigTIFF


class Feed:
    """The bytes of a TIFF whose rows are still being made."""

    def __init__(self, page: Pixels) -> None:
        """Make the beginning of a file for pictures like ``page``, whose values are not looked at."""
        h, w, c = page.shape
        row, strips = w * c * page.dtype.itemsize, -(-h // STRIP_ROWS)
        counts = [row * min(STRIP_ROWS, h - top) for top in range(0, h, STRIP_ROWS)]
        entries = plain_entries((h, w, c), page.dtype) | {259: (1,), 278: (STRIP_ROWS,), 279: tuple(counts)}
        size = len(directory(entries | {273: (0,) * strips}, BEGINNING))
        starts = np.cumsum([BEGINNING + size, *counts[:-1]]).tolist()
        self.start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, BEGINNING) + directory(entries | {273: tuple(starts)}, BEGINNING)
        self.size, self.place = len(self.start) + row * h, 0
        self.taken = len(self.start)  # how far the rows were read
        self.coming: queue.Queue[Pixels | None] = queue.Queue(1)  # ``None`` where no more rows come
        self.rows, self.ended = memoryview(b""), False

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes; fewer where no more rows come, none of rows that are gone."""
        if self.place < len(self.start):
            found = self.start[self.place : self.place + count]
        else:
            found = self._next(count) if self.place == self.taken else b""
            self.taken += len(found)
        self.place += len(found)
        return found

    def seek(self, offset: int, whence: int) -> int:
        """Set and return the position."""
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def _next(self, count: int) -> bytes:
        parts = []
        while count and not self.ended:
            if not self.rows:
                rows = self.coming.get()
                self.ended = rows is None
                self.rows = memoryview(b"") if rows is None else rows.reshape(-1).view(np.uint8).data
            parts.append(self.rows[:count])
            self.rows = self.rows[count:]
            count -= len(parts[-1])
        return b"".join(parts)


class RowWriter:
    """Takes the rows of one picture, from top to bottom, and writes its file, which is complete when the ``with`` block ends."""

    def __init__(self, kind: str, stream: BinaryIO, page: Pixels, carried: Carried) -> None:
        """Begin to write.

        Args:
            kind: ``png``, ``jpeg`` or ``tiff``.
            stream: open for writing; for a TIFF also for reading, and seekable.
            page: of the shape and type of the whole result, which the format holds; its values are not looked at.
            carried: what goes along.
        """
        self.kind, self.stream, self.page, self.carried = kind, stream, page, carried
        self.feed = Feed(page)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._encode, daemon=True)

    def __enter__(self) -> RowWriter:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the file; the stream stays open.

        Raises:
            OSError: the stream cannot be written.
        """
        self._put(None)
        self.thread.join()
        if error is None:
            self._check()

    def write(self, rows: Pixels) -> None:
        """Take the rows that come next, (n, w, c).

        Raises:
            OSError: the stream cannot be written.
        """
        for top in range(0, len(rows), STRIP_ROWS):  # so that few rows wait
            self._put(rows[top : top + STRIP_ROWS].copy())
        self._check()

    def _put(self, rows: Pixels | None) -> None:
        while self.thread.is_alive():
            try:
                self.feed.coming.put(rows, timeout=0.1)
                return
            except queue.Full:
                continue

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _encode(self) -> None:
        try:
            vips = libvips()
            source = vips.SourceCustom()
            source.on_read(self.feed.read)
            source.on_seek(self.feed.seek)
            image = vips.Image.tiffload_source(source, access="sequential", fail_on="error")
            save(in_space(image, self.page.dtype), self.kind, self.stream, self.carried)
        except Exception as err:  # raised where the rows come from
            self.error = err

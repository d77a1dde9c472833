"""Rows of a picture as it is to be seen, from rows as they are stored (EXIF orientation)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_deploy.pictures import TURNED
from sr_deploy.runtime.pictures.rows import RowSource
from sr_deploy.runtime.pictures.samples import Pixels

BLOCK = 256  # rows that lie together in the temporary file


class Mirrored:
    """A source with its columns in reverse order."""

    def __init__(self, source: RowSource) -> None:
        self.source, self.shape, self.dtype = source, source.shape, source.dtype

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`."""
        return np.ascontiguousarray(self.source.rows(first, last)[:, ::-1])

    def close(self) -> None:
        """See :class:`RowSource`."""
        self.source.close()


class Turned:
    """An upright picture from one that was decoded into a temporary file, as orientations 3 to 8 need it.

    The file holds blocks of ``BLOCK`` rows, each turned so that its columns lie one behind the other where the orientation
    exchanges height and width: some rows of the upright picture are then one piece of each block.
    """

    def __init__(self, source: RowSource, orientation: int, folder: Path) -> None:
        """Decode all of ``source`` into a temporary file in ``folder``, and close it.

        Raises:
            InputError: the picture is truncated or damaged.
            OSError: the folder cannot be written, or the disk is full.
        """
        self.orientation, self.stored, self.dtype = orientation, source.shape, source.dtype
        height, width, channels = source.shape
        self.exchanged = orientation in TURNED
        self.shape = (width, height, channels) if self.exchanged else source.shape
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- held as long as its rows are asked for
        try:
            for first in range(0, height, BLOCK):
                rows = source.rows(first, min(first + BLOCK, height))
                self.file.write(np.ascontiguousarray(rows.swapaxes(0, 1) if self.exchanged else rows).data)
            self.file.flush()
        except BaseException:
            self.file.close()
            raise
        finally:
            source.close()

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`; these may be asked for in any order."""
        height, width, _ = self.stored
        backwards = self.orientation in (3, 4, 7, 8)  # the last row or column of what is stored comes first
        length = width if self.exchanged else height
        begin, end = (length - last, length - first) if backwards else (first, last)
        found = self._columns(begin, end) if self.exchanged else self._read(begin * width, (end - begin, *self.stored[1:]))
        found = found[::-1] if backwards else found
        return np.ascontiguousarray(found[:, ::-1] if self.orientation in (3, 6, 7) else found)

    def close(self) -> None:
        """See :class:`RowSource`."""
        self.file.close()

    def _columns(self, begin: int, end: int) -> Pixels:
        """Return columns of the stored picture as rows: (end - begin, stored height, c)."""
        height, width, channels = self.stored
        parts = []
        for first in range(0, height, BLOCK):
            count = min(BLOCK, height - first)
            parts.append(self._read(first * width + begin * count, (end - begin, count, channels)))
        return np.concatenate(parts, axis=1)

    def _read(self, pixel: int, shape: tuple[int, int, int]) -> Pixels:
        self.file.seek(pixel * self.stored[2] * self.dtype.itemsize)
        found: Pixels = np.fromfile(self.file, self.dtype, int(np.prod(shape))).reshape(shape)
        return found


def upright_rows(source: RowSource, orientation: int, folder: Path) -> RowSource:
    """Return the rows of a picture as it is to be seen; ``folder`` takes the temporary file of a turned one.

    Raises:
        InputError: the picture is truncated or damaged.
        OSError: the temporary file cannot be written.
    """
    if orientation == 1:
        return source
    return Mirrored(source) if orientation == 2 else Turned(source, orientation, folder)

"""Rows of picture files by libvips, which decodes as it goes where OpenCV and Pillow need the whole picture (extra ``large``).

What it gives is, sample by sample, what Pillow gives. An EXIF orientation that mirrors rows is applied to each; one that turns the
picture, or turns it over, needs its last rows first, so the decoded picture is first written to a temporary file: of the size of
the input's samples, in the folder of the result, without a name, so that nothing is left whatever happens.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_deploy.console import missing_package
from sr_deploy.errors import InputError, MachineError
from sr_deploy.pictures import TURNED
from sr_deploy.runtime.large_head import Head
from sr_deploy.runtime.large_rows import RowSource, Samples

BLOCK = 256  # rows that lie together in the temporary file
DTYPES = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
SPACES = {1: ("b-w", "grey16"), 2: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("srgb", "rgb16")}


class VipsRows:
    """A picture file decoded by rows, as it is stored."""

    def __init__(self, head: Head, *, allow_truncated: bool = False) -> None:
        """Open the file and read its header.

        Args:
            head: of the file; what libvips finds has to agree with it.
            allow_truncated: take what is there of a file that ends early; the rest is black.

        Raises:
            MachineError: pyvips is not installed, or the picture is of a kind that cannot be read by rows.
            InputError: the file is damaged.
        """
        with missing_package("large"):
            import pyvips
        logging.getLogger("pyvips").addHandler(logging.NullHandler())  # else its words are a second line beside ours
        self.head, self.vips = head, pyvips
        self.broken: type[Exception] = pyvips.Error
        fail_on = "none" if allow_truncated else "truncated"
        try:
            # By a descriptor: libvips takes brackets in a name for options, and pyvips takes no name that is not UTF-8.
            with head.path.open("rb") as file:
                source = pyvips.Source.new_from_descriptor(file.fileno())
            image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on=fail_on, revalidate=True)
        except self.broken as err:
            raise self._damaged(err) from err
        found = (image.height, image.width, image.bands)
        same = found == (*head.stored, head.channels) and image.format in DTYPES and DTYPES[image.format].itemsize == head.depth
        if not (head.plain and same and image.interpretation in SPACES[head.channels]):
            raise MachineError(unreadable(head))
        self.shape, self.dtype = found, DTYPES[image.format]
        several = image.get_typeof("jpeg-multiscan") and image.get("jpeg-multiscan")
        interlaced = image.get_typeof("interlaced") and image.get("interlaced")
        # Several scans: libjpeg keeps the coefficients of the whole picture, 16 bits each. Interlaced: libpng keeps its samples.
        self.whole_bytes = head.nbytes * (2 if several else 1 if interlaced else 0)
        self.region = pyvips.Region.new(image)

    def rows(self, first: int, last: int) -> Samples:
        """See :class:`RowSource`."""
        try:
            content = self.region.fetch(0, first, self.shape[1], last - first)
        except self.broken as err:
            raise self._damaged(err) from err
        return np.frombuffer(content, self.dtype).reshape(last - first, *self.shape[1:])

    def close(self) -> None:
        """See :class:`RowSource`."""
        del self.region

    def _damaged(self, err: Exception) -> InputError:
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        reason = lines[-1].replace(str(self.head.path), "the file") if lines else type(err).__name__
        return InputError(f"{self.head.path}: cannot be decoded ({reason}); the file is truncated or damaged")


def unreadable(head: Head) -> str:
    """Return one line about a picture that is too large for the memory and cannot be read by rows."""
    h, w, _ = head.shape
    return (
        f"{head.path}: {w}x{h} pixels, {head.format} of mode {head.mode}, cannot be read by rows; "
        "convert it to an 8-bit RGB or grey PNG, JPEG or TIFF, or allow more with --memory"
    )


class Mirrored:
    """A source with its columns in reverse order."""

    def __init__(self, source: RowSource) -> None:
        self.source, self.shape, self.dtype = source, source.shape, source.dtype

    def rows(self, first: int, last: int) -> Samples:
        """See :class:`RowSource`."""
        return np.ascontiguousarray(self.source.rows(first, last)[:, ::-1])

    def close(self) -> None:
        """See :class:`RowSource`."""
        self.source.close()


class Turned:
    """An upright picture from one that was decoded into a temporary file, as orientations 3 to 8 need it.

    The file holds blocks of ``BLOCK`` rows, each turned so that its columns lie one behind the other where the orientation exchanges
    height and width: some rows of the upright picture are then one piece of each block.
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

    def rows(self, first: int, last: int) -> Samples:
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

    def _columns(self, begin: int, end: int) -> Samples:
        """Return columns of the stored picture as rows: (end - begin, stored height, c)."""
        height, width, channels = self.stored
        parts = []
        for first in range(0, height, BLOCK):
            count = min(BLOCK, height - first)
            parts.append(self._read(first * width + begin * count, (end - begin, count, channels)))
        return np.concatenate(parts, axis=1)

    def _read(self, pixel: int, shape: tuple[int, int, int]) -> Samples:
        size = int(np.prod(shape)) * self.dtype.itemsize
        content, place = bytearray(), pixel * self.stored[2] * self.dtype.itemsize
        while len(content) < size:  # one call reads at most 2 GiB
            more = os.pread(self.file.fileno(), size - len(content), place + len(content))
            if not more:
                raise OSError(5, "the temporary file is shorter than it was written")
            content += more
        return np.frombuffer(content, self.dtype).reshape(shape)


def upright_rows(head: Head, folder: Path, *, allow_truncated: bool = False) -> RowSource:
    """Return the rows of a picture file as it is to be seen; ``folder`` takes the temporary file of a turned one.

    Raises:
        MachineError: pyvips is not installed, or the picture is of a kind that cannot be read by rows.
        InputError: the file is damaged.
        OSError: the temporary file cannot be written.
    """
    source = VipsRows(head, allow_truncated=allow_truncated)
    if head.orientation <= 2:
        return source if head.orientation == 1 else Mirrored(source)
    return Turned(source, head.orientation, folder)

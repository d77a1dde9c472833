"""Rows of picture files by libvips, which decodes as it goes where OpenCV and Pillow need the whole picture (extra ``large``).

What it gives is, sample by sample, what the picture gives in memory. An EXIF orientation that mirrors rows is applied to each;
one that turns the picture, or turns it over, needs its last rows first, so the decoded picture is first written to a temporary
file: of the size of the input's samples, in the folder of the result, without a name, so that nothing is left whatever happens.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from sr_deploy.console import missing_package
from sr_deploy.errors import InputError, MachineError
from sr_deploy.pictures import TURNED
from sr_deploy.runtime.large.head import Head
from sr_deploy.runtime.large.rows import RowSource
from sr_deploy.runtime.pictures.colour import pixels_of
from sr_deploy.runtime.pictures.samples import Pixels

BLOCK = 256  # rows that lie together in the temporary file
DTYPES = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}


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
        try:
            with missing_package("large"):
                import pyvips
        except OSError as err:  # the wheel pyvips alone looks for a libvips of the system
            raise MachineError(f"pyvips finds no libvips ({err}); pip install 'pyvips[binary]'") from err
        logging.getLogger("pyvips").addHandler(logging.NullHandler())  # else its words are a second line beside ours
        self.head, self.vips = head, pyvips
        self.broken: type[Exception] = pyvips.Error
        fail_on = "none" if allow_truncated else "error"
        try:
            # By a descriptor: libvips takes brackets in a name for options, and pyvips takes no name that is not UTF-8.
            with head.path.open("rb") as file:
                source = pyvips.Source.new_from_descriptor(file.fileno())
            image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on=fail_on, revalidate=True)
        except self.broken as err:
            raise self._damaged(err) from err
        self.shape = (*head.stored, head.shape[2])
        self.dtype: np.dtype[np.generic] = head.picture.pixels.dtype
        self.stored = (*head.stored, 4 if head.mode == "CMYK" else head.shape[2])
        found = (image.height, image.width, image.bands), DTYPES.get(image.format)
        if not head.plain or found != (self.stored, self.dtype) or image.interpretation not in spaces(head):
            raise MachineError(unreadable(head))
        several = image.get_typeof("jpeg-multiscan") and image.get("jpeg-multiscan")
        interlaced = image.get_typeof("interlaced") and image.get("interlaced")
        # Several scans: libjpeg keeps the coefficients of the whole picture, 16 bits each. Interlaced: libpng keeps its samples.
        self.whole_bytes = int(np.prod(self.stored)) * self.dtype.itemsize * (2 if several else 1 if interlaced else 0)
        self.region = pyvips.Region.new(image)

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`."""
        try:
            content = self.region.fetch(0, first, self.shape[1], last - first)
        except self.broken as err:
            raise self._damaged(err) from err
        raw = np.frombuffer(content, self.dtype).reshape(last - first, *self.stored[1:])
        return raw if self.stored == self.shape else srgb_rows(raw, self.head)

    def close(self) -> None:
        """See :class:`RowSource`."""
        del self.region

    def _damaged(self, err: Exception) -> InputError:
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        reason = lines[-1].replace(str(self.head.path), "the file") if lines else type(err).__name__
        return InputError(f"{self.head.path}: cannot be decoded ({reason}); the file is truncated or damaged")


def spaces(head: Head) -> tuple[str, ...]:
    """Return what libvips may call the colours of a picture."""
    return ("cmyk",) if head.mode == "CMYK" else ("b-w", "grey16") if head.shape[2] <= 2 else ("srgb", "rgb16")


def srgb_rows(raw: Pixels, head: Head) -> Pixels:
    """Return rows of CMYK as they are read of a whole picture: sRGB, uint8 (n, w, 3)."""
    image = Image.frombytes("CMYK", (raw.shape[1], len(raw)), raw.tobytes())
    if head.cmyk_profile is not None:
        image.info["icc_profile"] = head.cmyk_profile
    return pixels_of(image)


def unreadable(head: Head) -> str:
    """Return one line about a picture that is too large for the memory and cannot be read by rows."""
    h, w, _ = head.shape
    return (
        f"{head.path}: {w}x{h} pixels, {head.picture.format} of {head.mode}, too large for the memory, cannot be read by rows; "
        "write it as RGB or grey PNG, JPEG or TIFF, or allow more with --memory"
    )


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
        size = int(np.prod(shape)) * self.dtype.itemsize
        content, place = bytearray(), pixel * self.stored[2] * self.dtype.itemsize
        while len(content) < size:  # one call reads at most 2 GiB
            more = os.pread(self.file.fileno(), size - len(content), place + len(content))
            if not more:
                raise OSError(5, "the temporary file is shorter than it was written")
            content += more
        return np.frombuffer(content, self.dtype).reshape(shape)


def upright_rows(source: RowSource, orientation: int, folder: Path) -> RowSource:
    """Return the rows of a picture as it is to be seen; ``folder`` takes the temporary file of a turned one.

    Raises:
        InputError: the picture is truncated or damaged.
        OSError: the temporary file cannot be written.
    """
    if orientation == 1:
        return source
    return Mirrored(source) if orientation == 2 else Turned(source, orientation, folder)

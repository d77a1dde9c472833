"""Rows of picture files by libvips, which decodes as it goes where OpenCV and Pillow need the whole picture (extra ``large``).

What it gives is, sample by sample, what the picture gives in memory. An EXIF orientation that mirrors rows is applied to each;
one that turns the picture, or turns it over, needs its last rows first, so the decoded picture is first written to a temporary
file: of the size of the input's samples, in the folder of the result, without a name, so that nothing is left whatever happens.
"""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from sr_deploy.console import missing_package
from sr_deploy.errors import InputError, MachineError
from sr_deploy.runtime.pictures.colour import pixels_of
from sr_deploy.runtime.pictures.head import Head
from sr_deploy.runtime.pictures.samples import Pixels

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

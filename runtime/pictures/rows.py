"""Rows of picture files, from top to bottom, as libvips decodes them on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError, MachineError
from sr_deploy.pictures import ENDS_EARLY, explained, source
from sr_deploy.runtime.pictures.colour import pixels_of
from sr_deploy.runtime.pictures.deep import pixels_from_tiff, shown
from sr_deploy.runtime.pictures.libvips import damaged, libvips
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import Layout, ends_early, pages_of
from sr_deploy.runtime.pictures.tiff_view import View, samples_from_octets, views_of

if TYPE_CHECKING:
    import pyvips

    from sr_deploy.runtime.pictures.head import Head

DTYPES = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
ROWS = 256  # decoded at once where the whole picture is wanted
OTHER = "the file is of another kind or damaged"
SLACK = 2**20  # bytes that a file that ends early is continued by, beyond those of its samples


class RowSource(Protocol):
    """A picture that gives its rows once, from top to bottom."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]

    def rows(self, first: int, last: int) -> Pixels:
        """Return rows ``[first, last)`` as (last - first, w, c), a new array; ``first`` is the ``last`` of the call before.

        Raises:
            InputError: the picture turns out to be truncated or damaged.
        """

    def close(self) -> None:
        """Free the decoder and what it holds."""


class PlainRows:
    """A picture whose samples libvips gives as they are."""

    def __init__(self, head: Head, stream: BinaryIO, *, allow_truncated: bool = False) -> None:
        """Read the header.

        Args:
            head: of the file; what libvips finds has to agree with it.
            stream: the file, which may be closed afterwards.
            allow_truncated: take what is there of a file that ends early; the rest is black.

        Raises:
            MachineError: libvips is missing, or reads other samples.
            InputError: the file is damaged.
        """
        self.vips, self.head = libvips(), head
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
        source = self.vips.Source.new_from_descriptor(stream.fileno())
        image = loaded(head.picture.format, source, head.path, allow_truncated=allow_truncated)
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
        self.region = self.vips.Region.new(image)

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`."""
        try:
            content = self.region.fetch(0, first, self.shape[1], last - first)
        except self.vips.Error as err:
            raise damaged(self.head.path, err, ENDS_EARLY) from err
        raw: Pixels = np.frombuffer(content, self.dtype).reshape(last - first, *self.stored[1:])
        return raw if self.stored == self.shape else srgb_rows(raw, self.head)

    def close(self) -> None:
        """See :class:`RowSource`."""
        del self.region


class TiffRows:
    """A page of a TIFF whose samples are read here."""

    whole_bytes = 0

    def __init__(self, stream: BinaryIO, layout: Layout, path: Path, *, allow_truncated: bool = False) -> None:
        """Read the header.

        Args:
            stream: the file, which may be closed afterwards.
            layout: of the page.
            path: for messages.
            allow_truncated: take what is there of a file that ends early; the rest is black.

        Raises:
            MachineError: libvips is missing.
            InputError: the file is damaged.
        """
        self.vips, self.layout, self.path = libvips(), layout, path
        self.shape, self.dtype = shown(layout)
        self.file = os.fdopen(os.dup(stream.fileno()), "rb")
        padding = layout.nbytes + SLACK if allow_truncated else 0
        self.views = [View(self.file, entries, padding=padding) for entries in views_of(layout)]
        self.regions, self.sources = [], []
        try:
            for view in self.views:
                source = self.vips.SourceCustom()
                source.on_read(view.read)
                source.on_seek(view.seek)
                self.sources.append(source)
                image = loaded("tiff", source, path, allow_truncated=allow_truncated)
                self.width, self.bands = image.width, image.bands
                self.regions.append(self.vips.Region.new(image))
        except BaseException:
            self.close()
            raise

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`."""
        octets = self.layout.bits == 64
        stored = np.dtype(np.uint8) if octets else np.dtype(np.float32) if self.layout.kind == "f" else self.layout.dtype
        try:
            parts = [region.fetch(0, first, self.width, last - first) for region in self.regions]
        except self.vips.Error as err:
            raise damaged(self.path, err, ENDS_EARLY) from err
        found: list[NDArray[np.generic]] = []
        for part, view in zip(parts, self.views, strict=True):
            samples: NDArray[np.generic] = np.frombuffer(part, stored).reshape(last - first, self.width, self.bands)
            found.append(samples_from_octets(samples, self.layout, view.order) if octets else samples)  # type: ignore[arg-type]
        return pixels_from_tiff(found[0] if len(found) == 1 else np.concatenate(found, axis=2), self.layout, self.path)

    def close(self) -> None:
        """See :class:`RowSource`."""
        self.regions, self.sources = [], []
        self.file.close()


def whole(source: RowSource) -> Pixels:
    """Return all rows of a source, which is closed."""
    h, w, c = source.shape
    found: Pixels = np.empty((h, w, c), source.dtype)
    try:
        for first in range(0, h, ROWS):
            found[first : first + ROWS] = source.rows(first, min(first + ROWS, h))
    finally:
        source.close()
    return found


def rows_of(head: Head, *, allow_truncated: bool = False) -> PlainRows | TiffRows:
    """Return the rows of a picture file, as they are stored.

    Raises:
        MachineError: libvips is missing, or the picture cannot be read by rows.
        InputError: the file ends early or is damaged.
    """
    with explained(head.path), source(head.path) as stream:
        if head.picture.format == "tiff" and not allow_truncated:
            check_whole(next(pages_of(stream)), stream, head.path)
        if head.layout is not None:
            return TiffRows(stream, head.layout, head.path, allow_truncated=allow_truncated)
        return PlainRows(head, stream, allow_truncated=allow_truncated)


def check_whole(tags: ImageFileDirectory_v2, stream: BinaryIO, path: Path) -> None:
    """Raise ``InputError`` where a page of a TIFF ends early."""
    if ends_early(tags, os.fstat(stream.fileno()).st_size):
        raise InputError(f"{path}: cannot be decoded (truncated); {ENDS_EARLY}")


def loaded(kind: str, source: pyvips.Source, path: Path, *, allow_truncated: bool) -> pyvips.Image:
    """Return the picture in a source of libvips, its header read."""
    vips = libvips()
    load = {"png": vips.Image.pngload_source, "jpeg": vips.Image.jpegload_source, "tiff": vips.Image.tiffload_source}[kind]
    try:
        return load(source, access="sequential", fail_on="none" if allow_truncated else "error")
    except vips.Error as err:
        raise damaged(path, err, OTHER) from err


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

"""Picture files as plain arrays: every format, depth and kind of colour that is read, upright, with what goes along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError
from sr_deploy.picture_kinds import HEAD, check_no_preview, check_read
from sr_deploy.pictures import (
    DEFAULT,
    ENDS_EARLY,
    ORIENTATION,
    TOO_EARLY,
    Reading,
    check_declared,
    decoding,
    exif_of,
    explained,
    image_in,
    source,
)
from sr_deploy.runtime.pictures.colour import fitting_profile, pixels_of, spread_key_
from sr_deploy.runtime.pictures.deep import pixels_from_single
from sr_deploy.runtime.pictures.frames import with_frames
from sr_deploy.runtime.pictures.head import Head, image_head, tiff_head
from sr_deploy.runtime.pictures.metadata import tags_from
from sr_deploy.runtime.pictures.orientation import upright
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.rows import PlainRows, TiffRows, check_whole, whole
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import DEEP, LAB, ends_early, is_tiff, layout_of, pages_of

EIGHT = (8,)


class PictureFile:
    """A picture file, opened once: ``head`` is what it says of itself, ``read`` decodes it. Close it, or use a ``with`` block."""

    def __init__(self, path: Path, reading: Reading = DEFAULT) -> None:
        """Open the file and read its header.

        Raises:
            InputError: missing, no picture, or over a limit of ``reading``.
        """
        self.path, self.reading = path, reading
        self._image: Image.Image | None = None  # of what Pillow decodes
        self._depths: tuple[int, ...] = DEEP  # of what it does not
        with ExitStack() as stack, advised(path, reading), explained(path):
            self.stream = stack.enter_context(source(path))
            self.start = self.stream.read(HEAD)  # its first bytes
            self.stream.seek(0)
            with decoding(reading):
                self.head = self._head()
            self._open = stack.pop_all()

    def read(self) -> Picture:
        """Return the picture upright, its first frame or all of them; alpha is kept wherever the file has it. Once.

        8-bit pictures come as uint8, 16-bit ones as uint16 and float TIFF as float32. CMYK and Lab come as sRGB in 8 bits.

        Raises:
            InputError: damaged, of samples that are not read, or over a limit of ``reading``.
        """
        with advised(self.path, self.reading), explained(self.path), decoding(self.reading):
            return self._by_layout() if self._image is None else self._by_pillow(self._image)

    def frames_advice(self) -> str:
        """Return how all frames or pages are enlarged, where only the first is asked for and there are more."""
        if self.head.picture.frames == 1 or self.reading.frames:
            return ""
        if self.head.deep and self._image is not None and self._image.format == "PNG":
            return "write them in 8 bits for --frames"
        if self.head.picture.format == "tiff":
            self.stream.seek(0)
            with explained(self.path), decoding(self.reading):
                kinds = {layout_of(tags, self._depths) is None for tags in pages_of(self.stream)}
            if len(kinds) > 1:
                return "write its pages in one depth for --frames"
        return "--frames takes all"

    def close(self) -> None:
        """Close the file and forget what Pillow decoded."""
        self._image = None
        self._open.close()

    def __enter__(self) -> PictureFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _head(self) -> Head:
        check_read(self.path, self.start)
        if is_tiff(self.stream):
            first = next(pages_of(self.stream), None)
            if first is not None:
                check_no_preview(self.path, first)
            if first is not None and self.reading.allow_truncated and _cut_off(first, self.stream):
                self._depths = EIGHT
            layout = None if first is None else layout_of(first, self._depths)
            if first is not None and layout is not None:
                return tiff_head(self.stream, first, layout, self.path, self.reading)
            self.stream.seek(0)
        self._image = image_in(self.stream, self.path, self.reading)
        return image_head(self.stream, self._image, self.path, self.reading)

    def _by_pillow(self, image: Image.Image) -> Picture:
        head, path, all_frames = self.head, self.path, self.reading.frames
        kind, frames = head.picture.format, head.picture.frames
        if all_frames:
            check_declared(path, image.size, self.reading, area=frames * image.width * image.height)
        if head.deep and frames > 1 and all_frames:
            raise InputError(f"{path}: {frames} frames of 16 bits; leave --frames out for the first, or write them in 8 bits")
        if head.deep and kind == "png":
            pixels: Pixels = whole(PlainRows(head, self.stream, allow_truncated=self.reading.allow_truncated))
            return replace(head.picture, pixels=upright(pixels, head.orientation), rest=Frames())
        spread_key_(image)
        image.load()
        if not head.deep:
            pixels = pixels_of(image)
        elif len(image.getbands()) == 1:
            pixels = pixels_from_single(image, path)
        else:
            what = f"{image.format} of 16-bit samples in an unusual order is not read"
            raise InputError(f"{path}: {what}; write it as a plain 16-bit TIFF or PNG")
        exif = exif_of(image)  # by now with what lies behind the pixels of a PNG; Pillow has turned a TIFF
        picture = replace(
            head.picture,
            pixels=upright(pixels, exif.get(ORIENTATION)),
            icc_profile=fitting_profile(head.picture.icc_profile, pixels.shape[2]),
            tags=tags_from(exif) if kind in ("png", "tiff") else head.picture.tags,
            rest=Frames(),
        )
        return picture if not all_frames or frames == 1 else with_frames(picture, image, path, self.reading)

    def _by_layout(self) -> Picture:
        """Return a TIFF whose samples Pillow would cut or does not know."""
        self.stream.seek(0)
        pages = list(pages_of(self.stream))
        found, area = [], 0
        for tags in pages if self.reading.frames else pages[:1]:
            layout = layout_of(tags, self._depths)
            if layout is None:
                raise InputError(f"{self.path}: pages of other depths than the first; leave --frames out for the first")
            area += layout.width * layout.height
            layout.check(self.path, self.reading, area=area)
            if not self.reading.allow_truncated:
                check_whole(tags, self.stream, self.path)
            rows = TiffRows(self.stream, layout, self.path, allow_truncated=self.reading.allow_truncated)
            found.append(upright(whole(rows), tags.get(ORIENTATION)))
        profile = fitting_profile(self.head.picture.icc_profile, found[0].shape[2])
        rest = Frames(tuple(found[1:]))
        return replace(self.head.picture, pixels=found[0], icc_profile=profile, frames=len(pages), rest=rest)


def read_picture(path: Path, reading: Reading = DEFAULT) -> Picture:
    """Return what :class:`PictureFile` reads.

    Raises:
        InputError: missing, no picture, damaged, of samples that are not read, or over a limit of ``reading``.
    """
    with PictureFile(path, reading) as file:
        return file.read()


@contextmanager
def advised(path: Path, reading: Reading) -> Iterator[None]:
    """Take the advice to read what is there of a file out of an error where nothing can be read so."""
    try:
        yield
    except InputError as err:
        if ENDS_EARLY not in str(err) or (not reading.allow_truncated and can_read(path, replace(reading, allow_truncated=True))):
            raise
        raise InputError(str(err).replace(ENDS_EARLY, TOO_EARLY)) from err


def can_read(path: Path, reading: Reading) -> bool:
    """Return whether :func:`read_picture` gives a picture."""
    try:
        read_picture(path, reading)
    except InputError:
        return False
    return True


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of :func:`read_picture`."""
    return read_picture(path).pixels


def head_of(path: Path, reading: Reading = DEFAULT) -> Head:
    """Return what a picture file's header says.

    Raises:
        InputError: missing, no picture, or over a limit of ``reading``.
    """
    with PictureFile(path, reading) as file:
        return file.head


def _cut_off(tags: ImageFileDirectory_v2, stream: BinaryIO) -> bool:
    """Return whether a page of 8 bits ends early: Pillow takes no part of it where it is compressed."""
    layout = layout_of(tags, EIGHT)
    return layout is not None and layout.photometric != LAB and ends_early(tags, stream.seek(0, 2))

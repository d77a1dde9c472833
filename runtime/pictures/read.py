"""Picture files as plain arrays: every format, depth and kind of colour that is read, upright, with what goes along."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError
from sr_deploy.files import write_bytes
from sr_deploy.pictures import (
    DEFAULT,
    ORIENTATION,
    Reading,
    check_declared,
    decoding,
    exif_of,
    explained,
    image_in,
    is_deep,
    source,
)
from sr_deploy.runtime.pictures.colour import fitting_profile, pixels_of, spread_key_
from sr_deploy.runtime.pictures.deep import LAB, pixels_from_png, pixels_from_single, pixels_from_tiff
from sr_deploy.runtime.pictures.formats import START
from sr_deploy.runtime.pictures.head import PROFILE_TAG, Head, image_head, tiff_head
from sr_deploy.runtime.pictures.metadata import tags_from
from sr_deploy.runtime.pictures.orientation import upright
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.png_file import png_bytes
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import DEEP, ends_early, is_tiff, layout_of, pages_of, tiff_samples

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
        with ExitStack() as stack, explained(path):
            self.stream = stack.enter_context(source(path))
            self.start = self.stream.read(START)  # its first bytes
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
        with explained(self.path), decoding(self.reading):
            return self._by_layout() if self._image is None else self._by_pillow(self._image)

    def close(self) -> None:
        """Close the file and forget what Pillow decoded."""
        self._image = None
        self._open.close()

    def __enter__(self) -> PictureFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _head(self) -> Head:
        if is_tiff(self.stream):
            first = next(pages_of(self.stream), None)
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
        spread_key_(image)
        image.load()
        if head.deep and frames > 1 and all_frames:
            raise InputError(f"{path}: {frames} frames of 16 bits; leave --frames out for the first, or write them in 8 bits")
        if not head.deep:
            pixels: Pixels = pixels_of(image)
        elif len(image.getbands()) == 1:
            pixels = pixels_from_single(image, path)
        elif kind == "png":
            self.stream.seek(0)
            pixels = pixels_from_png(self.stream.read(), path, image.info.get("transparency"))
        else:
            what = f"{image.format} of 16-bit samples in an unusual order is not read"
            raise InputError(f"{path}: {what}; write it as a plain 16-bit TIFF or PNG")
        exif = exif_of(image)  # by now with what lies behind the pixels of a PNG; Pillow has turned a TIFF
        picture = replace(
            head.picture,
            pixels=upright(pixels, exif.get(ORIENTATION)),
            icc_profile=fitting_profile(image.info.get("icc_profile"), pixels.shape[2]),
            tags=tags_from(exif) if kind in ("png", "tiff") else head.picture.tags,
            rest=Frames(),
        )
        return picture if not all_frames or frames == 1 else _with_frames(picture, image, path, self.reading)

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
            samples = tiff_samples(self.stream, layout, self.path, allow_truncated=self.reading.allow_truncated)
            pixels = upright(pixels_from_tiff(samples, layout, self.path), tags.get(ORIENTATION))
            found.append(_finite(pixels, self.path))
        profile = fitting_profile(pages[0].get(PROFILE_TAG), found[0].shape[2])
        rest = Frames(tuple(found[1:]))
        return replace(self.head.picture, pixels=found[0], icc_profile=profile, frames=len(pages), rest=rest)


def read_picture(path: Path, reading: Reading = DEFAULT) -> Picture:
    """Return what :class:`PictureFile` reads.

    Raises:
        InputError: missing, no picture, damaged, of samples that are not read, or over a limit of ``reading``.
    """
    with PictureFile(path, reading) as file:
        return file.read()


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


def _with_frames(picture: Picture, image: Image.Image, path: Path, reading: Reading) -> Picture:
    """Return a picture with all its frames; those of an animation in one mode."""
    found, durations, area, turn = [], [], 0, exif_of(image).get(ORIENTATION)
    loop = image.info.get("loop")
    if picture.format == "gif":  # it counts repetitions, and not to be repeated is to have no count
        loop = 1 if loop is None else loop + 1 if loop else 0
    hidden = bool(image.info.get("default_image"))  # of an animated PNG: shown by programs that know no animation, no frame of it
    for number in range(int(hidden), picture.frames):
        image.seek(number)
        area += image.width * image.height
        check_declared(path, image.size, reading, area=area)
        if is_deep(image) and image.mode != "CMYK":
            raise InputError(f"{path}: pages of 16 bits or floats behind one of 8 bits; leave --frames out for the first")
        image.load()
        found.append(upright(pixels_of(image), turn))
        durations.append(int(image.info.get("duration", 0)))
    if picture.format == "tiff":
        return replace(picture, rest=Frames(tuple(found[1:])))
    if all(pixels.shape[2] in (2, 4) and (pixels[..., -1] == 255).all() for pixels in found):  # Pillow gives WebP's so
        found = [np.ascontiguousarray(pixels[..., :-1]) for pixels in found]
    found = [in_channels(pixels, max(pixels.shape[2] for pixels in found)) for pixels in found]
    profile = fitting_profile(picture.icc_profile, found[0].shape[2])
    rest = Frames(tuple(found[1:]), tuple(durations), int(loop or 0))
    return replace(picture, pixels=found[0], icc_profile=profile, frames=len(found), rest=rest)


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return (h, w, c) in more channels: grey three times, opaque alpha."""
    if pixels.shape[2] == channels:
        return pixels
    colours = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 and channels >= 3 else pixels
    if colours.shape[2] == channels:
        return colours
    return np.concatenate([colours, np.full((*colours.shape[:2], 1), 255, colours.dtype)], axis=2)


def _cut_off(tags: ImageFileDirectory_v2, stream: BinaryIO) -> bool:
    """Return whether a page of 8 bits ends early: Pillow takes no part of it where it is compressed."""
    layout = layout_of(tags, EIGHT)
    return layout is not None and layout.photometric != LAB and ends_early(layout, stream.seek(0, 2))


def _finite(pixels: Pixels, path: Path) -> Pixels:
    if pixels.dtype == np.float32 and not (np.isfinite(pixels.min(initial=0)) and np.isfinite(pixels.max(initial=0))):
        raise InputError(f"{path}: holds values that are no finite numbers; replace them first")
    return pixels


def write_png(path: Path, pixels: Pixels, *, icc_profile: bytes | None = None) -> None:
    """Write uint8 or uint16 (h, w, c) as a PNG with its colour profile, whole or not at all."""
    write_bytes(path, bytes(png_bytes(pixels, icc_profile=icc_profile)))

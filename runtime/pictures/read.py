"""Picture files as plain arrays: every format, depth and kind of colour that is read, upright, with what goes along."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError
from sr_deploy.files import write_bytes
from sr_deploy.pictures import (
    DEFAULT,
    Reading,
    check_declared,
    decoding,
    exif_of,
    explained,
    frame_count,
    is_deep,
    opened,
    source,
)
from sr_deploy.runtime.pictures.colour import fitting_profile, pixels_of, spread_key_
from sr_deploy.runtime.pictures.deep import LAB, pixels_from_png, pixels_from_single, pixels_from_tiff
from sr_deploy.runtime.pictures.jpeg_quality import jpeg_quality
from sr_deploy.runtime.pictures.metadata import colour_chunks, tags_from
from sr_deploy.runtime.pictures.orientation import ORIENTATION, upright
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.png_file import png_bytes
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import DEEP, ends_early, is_tiff, layout_of, pages_of, tiff_samples

EIGHT = (8,)
PROFILE_TAG = 34675  # of TIFF
BEFORE_PIXELS = 2**22  # bytes of a PNG that are searched for what it says of its colours


def read_picture(path: Path, reading: Reading = DEFAULT, *, content: bytes | None = None) -> Picture:
    """Return a picture file upright, its first frame or all of them; alpha is kept wherever the file has it.

    8-bit pictures come as uint8, 16-bit ones as uint16 and float TIFF as float32. CMYK and Lab come as sRGB in 8 bits. With
    ``content`` that is decoded, and ``path`` is its name in messages.

    Raises:
        InputError: missing, no picture, damaged, of samples that are not read, or over a limit of ``reading``.
    """
    deep = _deep_tiff(path, reading, content)
    return deep if deep is not None else _picture(path, reading, content)


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of :func:`read_picture`."""
    return read_picture(path).pixels


def _picture(path: Path, reading: Reading, content: bytes | None) -> Picture:
    with opened(path, reading, content=content) as image:
        frames, kind = frame_count(image), "jpeg" if image.format == "MPO" else str(image.format).lower()
        if reading.frames:
            check_declared(path, image.size, reading, area=frames * image.width * image.height)
        deep = is_deep(image) and image.mode != "CMYK"
        spread_key_(image)
        image.load()
        single = len(image.getbands()) == 1
        if deep and frames > 1 and reading.frames:
            raise InputError(f"{path}: {frames} frames of 16 bits; leave --frames out for the first, or write them in 8 bits")
        raw = b""
        if kind == "png":
            with source(path, content) as stream:
                raw = stream.read() if deep and not single else stream.read(BEFORE_PIXELS)
        if deep and not single:
            pixels = pixels_from_png(raw, path, image.info.get("transparency")) if kind == "png" else _unread(image, path)
        else:
            pixels = pixels_from_single(image, path) if deep else pixels_of(image)
        exif = exif_of(image)
        turn = exif.get(ORIENTATION)
        picture = Picture(
            upright(pixels, turn),
            fitting_profile(image.info.get("icc_profile"), pixels.shape[2]),
            frames,
            kind,
            tags_from(exif),
            colour_chunks(raw),
            lossless=kind not in ("jpeg", "webp") or (kind == "webp" and _lossless_webp(path, content)),
            jpeg_quality=jpeg_quality(image),
        )
        if not reading.frames or frames == 1:
            return picture
        return _with_frames(picture, image, path, reading)


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


def _unread(image: Image.Image, path: Path) -> Pixels:
    raise InputError(
        f"{path}: {image.format} of 16-bit samples in an unusual order is not read; write it as a plain 16-bit TIFF or PNG"
    )


def _lossless_webp(path: Path, content: bytes | None) -> bool:
    with source(path, content) as stream:
        stream.seek(12)  # behind RIFF, its size and WEBP
        while len(head := stream.read(8)) == 8:
            if head[:4] == b"ANMF":  # a frame: its place, size and duration, then chunks of its own
                stream.seek(16, 1)
            elif head[:4] in (b"VP8L", b"VP8 ", b"ALPH"):
                return head[:4] == b"VP8L"
            else:
                size = int.from_bytes(head[4:], "little")
                stream.seek(size + size % 2, 1)
    return False


def _deep_tiff(path: Path, reading: Reading, content: bytes | None) -> Picture | None:
    """Return a TIFF whose samples Pillow would cut or does not know; ``None`` of any other file."""
    with explained(path), source(path, content) as stream, decoding(reading):
        if not is_tiff(stream):
            return None
        first = next(pages_of(stream), None)
        depths = DEEP if first is None or not reading.allow_truncated or not _cut_off(first, stream) else EIGHT
        if first is None or layout_of(first, depths) is None:
            return None
        stream.seek(0)
        pages = list(pages_of(stream))
        found, area = [], 0
        for tags in pages if reading.frames else pages[:1]:
            layout = layout_of(tags, depths)
            if layout is None:
                raise InputError(f"{path}: pages of other depths than the first; leave --frames out for the first")
            area += layout.width * layout.height
            layout.check(path, reading, area=area)
            samples = tiff_samples(stream, layout, path, allow_truncated=reading.allow_truncated)
            found.append(_finite(upright(pixels_from_tiff(samples, layout, path), tags.get(ORIENTATION)), path))
        profile = fitting_profile(pages[0].get(PROFILE_TAG), found[0].shape[2])
        exif = Image.Exif()
        stream.seek(0)
        with suppress(Exception):  # whatever Pillow's parser meets: EXIF that cannot be read is no reason to refuse the picture
            exif.load_from_fp(stream)
        return Picture(found[0], profile, len(pages), "tiff", tags_from(exif), rest=Frames(tuple(found[1:])))


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

"""Results to the bytes of their files, with the profile, EXIF and colour chunks of the picture they were made from.

Where a format holds fewer bits than the picture has, samples are brought from white to white and rounded: 65535 to 255, and
floats from 0 to 1, clipped, to 65535 in a PNG and to 255 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.pictures.animation import Show, apng_bytes, gif_bytes, image_of, webp_bytes
from sr_deploy.runtime.pictures.formats import FORMATS
from sr_deploy.runtime.pictures.jpeg_file import LONGEST_SEGMENT, jpeg_bytes
from sr_deploy.runtime.pictures.metadata import PREFIX
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.png_file import png_bytes
from sr_deploy.runtime.pictures.samples import Pixels, nominal
from sr_deploy.runtime.pictures.tiff_write import tiff_parts

QUALITY = 95  # of JPEG and lossy WebP where nothing is said
ROWS = 256  # reduced at once
Content = Sequence[bytes | memoryview]
"""The parts of a file, to be written one after the other."""


def encode(kind: str, results: Sequence[Pixels], picture: Picture, quality: int | None = None) -> Content:
    """Return the file of a picture's enlarged frames; ``results`` may be changed.

    Args:
        kind: a format that holds them; see :func:`sr_deploy.runtime.pictures.formats.check_holds`.
        results: (h, w, c), as many as ``picture`` has frames that were read.
        picture: what they were made from.
        quality: 1 to 100, of JPEG and WebP; ``None`` is 95, and lossless for WebP where the picture was stored without loss.

    Raises:
        MemoryError: there is too little.
    """
    h, w, _ = results[0].shape
    longest = LONGEST_SEGMENT if kind == "jpeg" else None
    exif = picture.tags.written((w, h), longest=longest) if picture.tags is not None else b""
    profile = picture.icc_profile
    if kind == "tiff":
        return tiff_parts(results, icc_profile=profile, exif=exif)
    colours = picture.chunks if picture.format == "png" else ()
    if kind == "png" and len(results) == 1:
        chunks = [*colours, *([(b"eXIf", exif[len(PREFIX) :])] if exif else [])]
        return [png_bytes(fewer_bits(results[0], 16), icc_profile=profile, chunks=chunks, scratch=True)]
    frames = [eight_bits(result) for result in results]
    if kind == "jpeg":
        return [jpeg_bytes(frames[0], quality or QUALITY, icc_profile=profile, exif=exif, scratch=True)]
    if kind == "bmp":
        stream = BytesIO()
        image_of(frames[0]).save(stream, format="BMP")
        return [stream.getbuffer()]
    show = Show(picture.rest.durations_ms, picture.rest.loop, profile, exif, colours)
    if kind == "webp":
        lossless = picture.lossless and quality is None
        return [webp_bytes(frames, show, quality=quality or QUALITY, lossless=lossless)]
    assert kind in FORMATS
    return [gif_bytes(frames, show) if kind == "gif" else apng_bytes(frames, show)]


def eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Return samples of 8 bits, the same array where it has them."""
    return np.asarray(fewer_bits(pixels, 8), np.uint8)


def fewer_bits(pixels: Pixels, bits: int) -> Pixels:
    """Return integer samples of at most ``bits`` bits, 8 or 16, white to white; the same array where it has them."""
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and bits == 16):
        return pixels
    white = 2**bits - 1
    found: Pixels = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    for top in range(0, len(pixels), ROWS):
        part = pixels[top : top + ROWS].astype(np.float32) * np.float32(white / nominal(pixels.dtype).white)
        found[top : top + ROWS] = np.clip(np.rint(part), 0, white)
    return found

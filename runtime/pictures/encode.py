"""Results to the bytes of their files, with what stood beside the picture they were made from, as far as their format holds it.

Where a format holds fewer bits than the picture has, samples are brought from white to white and rounded: 65535 to 255, and
floats from 0 to 1, clipped, to 65535 in a PNG and to 255 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import AppendingTiffWriter

from sr_deploy.runtime.pictures.animation import Show, apng_bytes, avif_bytes, gif_bytes, image_of, webp_bytes
from sr_deploy.runtime.pictures.beside import COMMENT, comments_of, some_of
from sr_deploy.runtime.pictures.colour import fitting_profile, rgb_from_grey
from sr_deploy.runtime.pictures.formats import FORMATS
from sr_deploy.runtime.pictures.jpeg_file import LONGEST_SEGMENT, holds_iptc, holds_xmp, segments_of
from sr_deploy.runtime.pictures.metadata import Tags
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.samples import Pixels, nominal
from sr_deploy.runtime.pictures.save import Carried, carried_by, file_of, is_big

ROWS = 256  # reduced at once
HELD = {  # what formats hold beside pixels, profile and EXIF
    "png": ("XMP", "comments"),
    "jpeg": ("XMP", "comments", "IPTC"),
    "webp": ("XMP",),
    "avif": ("XMP",),
    "gif": ("comments",),
}
BARE = ("bmp", "gif")  # hold neither
COLOURED = ("webp", "avif")  # no grey, or none with transparency: a grey profile is applied
NO_TAGS = Tags({}, {}, {})  # but an orientation
USUAL_GAMMA = (45455).to_bytes(4, "big")  # of sRGB
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
    carried = carried_by(picture, kind, (w, h), quality)
    if kind == "tiff":
        return [tiff_content(results, carried)]
    if kind == "jpeg" or (kind == "png" and len(results) == 1):
        return [file_of(reduced(results[0], kind), kind, carried)]
    return [eight_bit_bytes(kind, [eight_bits(result) for result in results], picture, carried, lossy=quality is not None)]


def tiff_content(pages: Sequence[Pixels], carried: Carried) -> memoryview:
    """Return the file of one or several pages, each of its own size and kind."""
    parts, big = [], is_big(sum(page.nbytes for page in pages))
    for page in pages:
        profile = fitting_profile(carried.icc_profile, page.shape[2])
        parts.append(file_of(page, "tiff", replace(carried, icc_profile=profile, big=big)))
    if len(parts) == 1:
        return parts[0]
    stream = BytesIO()
    with AppendingTiffWriter(stream, new=True) as joined:
        for part in parts:
            joined.write(bytes(part))
            joined.newFrame()
    return stream.getbuffer()


def reduced(pixels: Pixels, kind: str) -> Pixels:
    """Return samples of as many bits as a ``png``, ``jpeg`` or ``tiff`` holds; the same array where it has no more."""
    return pixels if kind == "tiff" else fewer_bits(pixels, 8 if kind == "jpeg" else 16)


def eight_bit_bytes(
    kind: str, frames: list[NDArray[np.uint8]], picture: Picture, carried: Carried, *, lossy: bool
) -> bytes | memoryview:
    """Return the file of frames of 8 bits in a format that holds no more, or several; see :func:`encode`."""
    beside, profile = picture.beside, picture.icc_profile
    comments = comments_of(beside, picture.chunks)
    if kind == "bmp":
        stream = BytesIO()
        image_of(frames[0]).save(stream, format="BMP")
        return stream.getbuffer()
    if profile and kind in COLOURED and frames[0].shape[2] <= 2:
        coloured = [rgb_from_grey(frame, profile) for frame in frames]
        profile, frames = None, [grey if found is None else found for grey, found in zip(frames, coloured, strict=True)]
    show = Show(picture.rest.durations_ms, picture.rest.loop, profile, carried.exif, carried.chunks, beside.xmp)
    if kind == "avif":
        return avif_bytes(frames, show, quality=carried.quality)
    if kind == "webp":
        return webp_bytes(frames, show, quality=carried.quality, lossless=picture.lossless and not lossy)
    assert kind in FORMATS
    return gif_bytes(frames, show, b"\n".join(comments)) if kind == "gif" else apng_bytes(frames, show)


def not_kept(kind: str, picture: Picture) -> tuple[str, ...]:
    """Return in words what of a picture its result of a format has not."""
    beside, held = picture.beside, HELD.get(kind, ())
    lost = [*beside.lost, *profile_lost(kind, picture)]
    if not picture.format == kind == "png":
        texts = [word for word in beside.texts if word != COMMENT.decode() or "comments" not in held]
        lost += [f"text ({some_of(texts)})"] if texts else []
        lost += ["comments"] if beside.comments and "comments" not in held else []
        lost += ["XMP"] if beside.xmp and ("XMP" not in held or (kind == "jpeg" and not holds_xmp(beside.xmp))) else []
        lost += [name.decode() for name, data in picture.chunks if name == b"cICP" or (name == b"gAMA" and data != USUAL_GAMMA)]
    lost += ["IPTC"] if beside.iptc and not ("IPTC" in held and holds_iptc(beside.iptc)) else []
    tags = picture.tags
    if tags is not None and ((kind in BARE and tags != NO_TAGS) or (kind == "tiff" and tags.beyond_resolution)):
        lost.append("EXIF")
    if picture.tags is not None and kind == "jpeg" and len(picture.tags.written((1, 1))) > LONGEST_SEGMENT:
        lost.append("the maker's note in EXIF")
    return tuple(lost)


def profile_lost(kind: str, picture: Picture) -> list[str]:
    """Return in words a colour profile that a result has neither as it is nor in its colours."""
    profile, pixels = picture.icc_profile, picture.pixels
    if not profile:
        return []
    if kind in BARE:
        return ["the colour profile"]
    one = np.zeros((1, 1, pixels.shape[2]), np.uint8)
    if kind in COLOURED and pixels.shape[2] <= 2 and rgb_from_grey(one, profile) is None:
        return ["the colour profile, which is damaged"]
    return ["the colour profile, which is too long"] if kind == "jpeg" and not segments_of(profile, b"") else []


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

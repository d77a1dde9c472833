"""GIF, WebP and AVIF files, and animations in them and in PNG, from arrays, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.runtime.pictures.jpeg_file import FULL_COLOUR
from sr_deploy.runtime.pictures.metadata import PREFIX
from sr_deploy.runtime.pictures.png_file import Chunks, with_chunks

TRANSPARENT = 255  # the index of the palette
OPAQUE = 128  # alpha from which a pixel of a GIF is seen: it has no half-transparent ones
MOST_LOOPS = 65_535  # of GIF and WebP, 16 bits
GIF_LONGEST_MS = 655_350  # of a frame, with all frames that are joined to it: 16 bits of hundredths of a second
WEBP_LONGEST_MS = 2**24 - 1
WEBP_END_MS = 2**31 - 1  # libwebp's clock
PNG_TICKS = 65_535  # of a frame, of any length
Frame = NDArray[np.uint8]
"""One frame: uint8 (h, w, c)."""


@dataclass(frozen=True)
class Show:
    """How frames are shown, and what stands beside them."""

    durations_ms: tuple[int, ...] = ()  # of each frame
    loop: int = 0  # how often, 0 for ever
    icc_profile: bytes | None = None
    exif: bytes = b""
    chunks: Chunks = ()  # of a PNG
    xmp: bytes = b""


def gif_bytes(frames: Sequence[Frame], show: Show, comment: bytes = b"") -> memoryview:
    """Return the content of a GIF file of one or several frames, with a comment."""
    cut_out = any(clear_in(frame).any() for frame in frames)
    images = [gif_image(frame, cut_out=cut_out) for frame in frames]
    stream, first = BytesIO(), images[0]
    if len(images) == 1:
        first.save(stream, format="GIF", optimize=False, comment=comment)
        return stream.getbuffer()
    options: dict[str, int] = {} if show.loop == 1 else {"loop": min(max(show.loop - 1, 0), MOST_LOOPS)}  # it counts repetitions
    if cut_out:
        options["disposal"] = 2  # what a frame leaves clear must not show the frame before
    first.save(
        stream,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=gif_durations(images, show.durations_ms),
        optimize=False,
        comment=comment,
        **options,
    )
    return stream.getbuffer()


def webp_bytes(frames: Sequence[Frame], show: Show, *, quality: int, lossless: bool) -> memoryview:
    """Return the content of a WebP file of one or several frames."""
    stream = BytesIO()
    options: dict[str, int | bool] = {"lossless": True} if lossless else {"quality": quality}
    images = [image_of(frame) for frame in frames]
    if len(images) > 1:
        options |= {"save_all": True, "loop": min(show.loop, MOST_LOOPS)}
        more = {"append_images": images[1:], "duration": webp_durations(show.durations_ms)}
    else:
        more = {}
    images[0].save(stream, format="WEBP", icc_profile=show.icc_profile or b"", exif=show.exif, xmp=show.xmp, **options, **more)
    return stream.getbuffer()


def avif_bytes(frames: Sequence[Frame], show: Show, *, quality: int) -> memoryview:
    """Return the content of an AVIF file of one or several frames; from a quality of 90 on with chroma for every pixel."""
    stream, images = BytesIO(), [image_of(frame) for frame in frames]
    images = [image.convert("RGBA") if image.mode == "LA" else image for image in images]  # which Pillow does not write
    chroma = "4:0:0" if images[0].mode == "L" else "4:4:4" if quality >= FULL_COLOUR else "4:2:0"
    exif = show.exif.removeprefix(PREFIX)
    options: dict[str, int | str | bytes] = {"quality": quality, "subsampling": chroma, "exif": exif, "xmp": show.xmp}
    more = {"save_all": True, "append_images": images[1:], "duration": list(show.durations_ms)} if len(images) > 1 else {}
    images[0].save(stream, format="AVIF", icc_profile=show.icc_profile or b"", **options, **more)
    return stream.getbuffer()


def apng_bytes(frames: Sequence[Frame], show: Show) -> bytes | memoryview:
    """Return the content of an animated PNG file (PNG, third edition, 4.9)."""
    stream = BytesIO()
    images = [image_of(frame) for frame in frames]
    images[0].save(
        stream,
        format="PNG",
        save_all=True,
        append_images=images[1:],
        duration=[png_duration(duration) for duration in show.durations_ms],
        loop=show.loop,
        icc_profile=show.icc_profile,
        exif=show.exif,
    )
    return with_chunks(stream.getbuffer(), show.chunks)


def gif_durations(images: Sequence[Image.Image], durations_ms: Sequence[int]) -> list[int]:
    """Return durations that a GIF holds, the longest instead of longer ones: Pillow joins equal frames that follow each other."""
    found: list[int] = []
    before, run = b"", 0
    for image, duration in zip(images, durations_ms, strict=True):
        content = image.convert("RGB").tobytes()
        run = run if content == before else 0
        found.append(min(duration, GIF_LONGEST_MS - run))
        before, run = content, run + found[-1]
    return found


def webp_durations(durations_ms: Sequence[int]) -> list[int]:
    """Return durations that a WebP holds, the longest instead of longer ones."""
    found, left = [], WEBP_END_MS
    for duration in durations_ms:
        found.append(min(duration, WEBP_LONGEST_MS, left))
        left -= found[-1]
    return found


def png_duration(duration_ms: int) -> int:
    """Return a duration that a PNG holds, a long one in ticks of 10, 100 or 1000 milliseconds."""
    for tick in (1, 10, 100):
        if round(duration_ms / tick) <= PNG_TICKS:
            return round(duration_ms / tick) * tick
    return min(round(duration_ms / 1000), PNG_TICKS) * 1000


def image_of(pixels: Frame) -> Image.Image:
    """Return a picture in the mode of its channels."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def clear_in(pixels: Frame) -> NDArray[np.bool_]:
    """Return which pixels a GIF shows as clear, (h, w)."""
    return pixels[..., -1] < OPAQUE if pixels.shape[2] in (2, 4) else np.zeros(pixels.shape[:2], np.bool_)


def gif_image(pixels: Frame, *, cut_out: bool) -> Image.Image:
    """Return a picture in at most 256 colours: grey as it is, else the best palette, its errors diffused (Floyd-Steinberg).

    With ``cut_out`` it has 255 colours and a transparent one, also where no pixel is clear: all frames of an animation have to
    agree on that, or a frame behind an opaque one is shown without its clear pixels.
    """
    clear = clear_in(pixels)
    colours = pixels[..., :1] if pixels.shape[2] <= 2 else pixels[..., :3]
    if not cut_out:
        image = image_of(colours)
        return image if image.mode == "L" else reduce_colours(image, 256)
    image = reduce_colours(image_of(colours).convert("RGB"), TRANSPARENT)
    indices = np.array(image)
    indices[clear] = TRANSPARENT
    found = Image.fromarray(indices)
    palette = image.getpalette() or []
    found.putpalette(palette + [0] * (768 - len(palette)))
    found.info["transparency"] = TRANSPARENT
    return found


def reduce_colours(image: Image.Image, colours: int) -> Image.Image:
    """Return an RGB picture with a palette of so many colours."""
    if image.getcolors(colours) is not None:  # few enough: nothing is lost
        return image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = image.quantize(colours, method=Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)

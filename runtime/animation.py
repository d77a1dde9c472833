"""GIF files, and animations in GIF, WebP and PNG, from arrays, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRANSPARENT = 255  # the index of the palette
OPAQUE = 128  # alpha from which a pixel of a GIF is seen: it has no half-transparent ones
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
Frame = NDArray[np.uint8]
"""One frame: uint8 (h, w, c)."""


@dataclass(frozen=True)
class Show:
    """How frames are shown, and what stands beside them."""

    durations_ms: tuple[int, ...] = ()  # of each frame
    loop: int = 0  # how often, 0 for ever
    icc_profile: bytes | None = None
    exif: bytes = b""


def gif_bytes(frames: Sequence[Frame], show: Show) -> memoryview:
    """Return the content of a GIF file of one or several frames."""
    images = [gif_image(frame) for frame in frames]
    stream, first = BytesIO(), images[0]
    if len(images) == 1:
        first.save(stream, format="GIF", optimize=False)
        return stream.getbuffer()
    options: dict[str, int] = {} if show.loop == 1 else {"loop": max(show.loop - 1, 0)}  # a GIF counts repetitions
    if any("transparency" in image.info for image in images):
        options["disposal"] = 2  # what a frame leaves clear must not show the frame before
    first.save(
        stream,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=list(show.durations_ms),
        optimize=False,
        **options,
    )
    return stream.getbuffer()


def webp_bytes(frames: Sequence[Frame], show: Show, *, quality: int, lossless: bool) -> memoryview:
    """Return the content of a WebP file of one or several frames."""
    stream = BytesIO()
    options: dict[str, int | bool] = {"lossless": True} if lossless else {"quality": quality}
    images = [image_of(frame) for frame in frames]
    if len(images) > 1:
        options |= {"save_all": True, "loop": show.loop}
        more = {"append_images": images[1:], "duration": list(show.durations_ms)}
    else:
        more = {}
    images[0].save(stream, format="WEBP", icc_profile=show.icc_profile or b"", exif=show.exif, **options, **more)
    return stream.getbuffer()


def apng_bytes(frames: Sequence[Frame], show: Show) -> memoryview:
    """Return the content of an animated PNG file (PNG, third edition, 4.9)."""
    stream = BytesIO()
    images = [image_of(frame) for frame in frames]
    images[0].save(
        stream,
        format="PNG",
        save_all=True,
        append_images=images[1:],
        duration=list(show.durations_ms),
        loop=show.loop,
        icc_profile=show.icc_profile,
        exif=show.exif,
    )
    return stream.getbuffer()


def image_of(pixels: Frame) -> Image.Image:
    """Return a picture in the mode of its channels."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def gif_image(pixels: Frame) -> Image.Image:
    """Return a picture in at most 256 colours: grey as it is, else the best palette, its errors diffused (Floyd-Steinberg)."""
    clear = pixels[..., -1] < OPAQUE if pixels.shape[2] in (2, 4) else np.zeros(0, np.bool_)
    colours = pixels[..., :1] if pixels.shape[2] <= 2 else pixels[..., :3]
    if not clear.any():
        image = image_of(colours)
        return image if image.mode == "L" else reduced(image, 256)
    image = reduced(image_of(colours).convert("RGB"), TRANSPARENT)
    indices = np.array(image)
    indices[clear] = TRANSPARENT
    found = Image.fromarray(indices)
    palette = image.getpalette() or []
    found.putpalette(palette + [0] * (768 - len(palette)))
    found.info["transparency"] = TRANSPARENT
    return found


def reduced(image: Image.Image, colours: int) -> Image.Image:
    """Return an RGB picture with a palette of so many colours."""
    if image.getcolors(colours) is not None:  # few enough: nothing is lost
        return image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = image.quantize(colours, method=Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)

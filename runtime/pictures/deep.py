"""What the samples of a deep TIFF show: grey or RGB of 8 bits, 16 bits or floats, with or without alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.runtime.pictures.colour import rgb_from_lab16
from sr_deploy.runtime.pictures.samples import Pixels, nominal
from sr_deploy.runtime.pictures.tiff_read import LAB, Layout

Samples = NDArray[np.generic]
"""As they are stored, in the machine's byte order: (h, w, c)."""

WHITE_IS_ZERO = 0  # a photometric interpretation
MULTIPLIED, SEPARATE_ALPHA = 1, 2  # TIFF's kinds of extra samples


def colours_of(layout: Layout) -> int:
    """Return the number of colour channels."""
    return 1 if layout.photometric <= 1 else 3


def alpha_of(layout: Layout) -> int | None:
    """Return which of the channels beyond colour is alpha, if one is."""
    colours = colours_of(layout)
    if not layout.extra and layout.channels == colours + 1:
        return 0
    inside = enumerate(layout.extra[: max(layout.channels - colours, 0)])
    return next((number for number, kind in inside if kind in (MULTIPLIED, SEPARATE_ALPHA)), None)


def shown(layout: Layout) -> tuple[tuple[int, int, int], np.dtype[np.generic]]:
    """Return shape, (h, w, c), and type of what a page shows."""
    channels = colours_of(layout) + (alpha_of(layout) is not None and layout.photometric != LAB)
    bits = 8 if layout.bits == 8 or layout.photometric == LAB else 16
    dtype = np.dtype(np.float32 if layout.kind == "f" else f"u{bits // 8}")
    return (layout.height, layout.width, channels), dtype


def pixels_from_tiff(samples: Samples, layout: Layout, path: Path) -> Pixels:
    """Return what rows of a TIFF page show: uint8 for Lab and samples of 8 bits, else uint16 or float32, (n, w, c).

    Raises:
        InputError: integers beyond 16 bits, values that are no numbers, or too few channels.
    """
    colours, alpha = colours_of(layout), alpha_of(layout)
    if layout.channels < colours:
        raise InputError(f"{path}: {layout.channels} channels of a colour TIFF, it needs 3; write it as RGB")
    if layout.photometric == LAB:
        if layout.dtype.itemsize != 2 or layout.kind == "f":
            raise InputError(f"{path}: Lab of {layout.dtype} samples is not read; write it as RGB, or in 8 or 16 bits")
        return rgb_from_lab16(np.ascontiguousarray(samples[..., :3]).view(np.uint16))
    chosen = [*range(colours), *([] if alpha is None else [colours + alpha])]
    shown = samples if len(chosen) == layout.channels else samples[..., chosen]
    pixels: Pixels = finite(np.asarray(shown, np.float32), path) if layout.kind == "f" else sixteen_bits(shown, path)
    white = np.array(nominal(pixels.dtype).white, pixels.dtype)
    if layout.photometric == WHITE_IS_ZERO:
        pixels = np.concatenate([white - pixels[..., :1], pixels[..., 1:]], axis=-1)
    return divided(pixels) if alpha is not None and layout.extra[alpha : alpha + 1] == (MULTIPLIED,) else pixels


def divided(pixels: Pixels) -> Pixels:
    """Return (n, w, c) with the colours divided by the alpha that they were multiplied with."""
    white = nominal(pixels.dtype).white
    opacity = np.maximum(pixels[..., -1:].astype(np.float32), np.float32(1e-6 * white))
    colours = pixels[..., :-1] * (np.float32(white) / opacity)
    colours = colours if pixels.dtype == np.float32 else np.clip(np.rint(colours), 0, white)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=-1)


def sixteen_bits(samples: Samples, path: Path) -> Pixels:
    """Return integer samples of any type as uint16, those of 8 bits as uint8.

    Raises:
        InputError: one is negative or beyond 65535.
    """
    if samples.dtype in (np.uint8, np.uint16):
        return samples  # type: ignore[return-value]
    numbers = np.asarray(samples)
    least, largest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if least < 0 or largest > 65535:
        raise InputError(
            f"{path}: integer samples from {least} to {largest}, the limits are 0 and 65535; write them in 16 bits or as floats"
        )
    return numbers.astype(np.uint8 if numbers.itemsize == 1 else np.uint16)


def finite(pixels: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """Return floats that are numbers.

    Raises:
        InputError: some are not.
    """
    if not (np.isfinite(pixels.min(initial=0)) and np.isfinite(pixels.max(initial=0))):
        raise InputError(f"{path}: holds values that are no finite numbers; replace them first")
    return pixels


def pixels_from_single(image: Image.Image, path: Path) -> Pixels:
    """Return one channel of 16 bits or floats that Pillow decoded: (h, w, 1).

    Raises:
        InputError: integers beyond 16 bits.
    """
    found = np.asarray(image)[..., None]
    return found if image.mode == "F" else sixteen_bits(found, path)

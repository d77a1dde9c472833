"""Patches of low-resolution pictures, damaged as photographs are: ``sr-train --degrade blur noise jpeg``.

A network that has seen only clean bicubic pictures sharpens what a camera leaves in a photograph, the blocks of JPEG above all.
Here half of the patches stay clean, unrounded as in the literature. The others pass through the named kinds of damage, in the
order in which a photograph does. The model is a small part of that of Zhang et al., "Designing a Practical Degradation Model for
Deep Blind Image Super-Resolution", ICCV 2021. Strengths are drawn for each patch:

``blur``
    A Gaussian with a deviation of 0.2 to 1 pixels of the low-resolution picture, uniform: less than theirs, a slight softness.
``noise``
    Independent for each sample, of variance ``a**2 + b**2 * x`` for a value ``x`` in [0, 1] (Foi et al., "Practical
    Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data", IEEE TIP 2008). ``a`` and ``b`` are uniform from 0
    to 2 grey levels: less than theirs, because shrinking averages a phone's noise.
``jpeg``
    Rounded to 8 bits, written with libjpeg's standard tables and read again, the quality uniform from 30 to 95 as theirs. From 50
    on, libjpeg's quantization steps are linear in the quality, so that all strengths are met equally often. Luma is written as a
    grey picture, RGB with chroma of half the resolution (4:2:0).

Noise and JPEG work on full range (0..255), as files store it (JFIF 1.02), not on studio range. The blocks of a file begin at its
corner, and a patch does not: what is written is the low-resolution picture from a random place above and left of the patch on,
and the patch is cut out of what is read. Of the picture only the surroundings are written, 16 pixels or more on every side but at
the picture's own border. The patch is nevertheless that of the whole file, because blocks meet only where chroma is enlarged.
Patches are turned and flipped afterwards, as EXIF turns a photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from sr_deploy.train.data.pairs import FRACTION, Corner, Planes, Raster, part

CLEAN = 0.5  # of the patches
BLUR = (0.2, 1.0)  # standard deviation in pixels
NOISE = 2.0  # grey levels, at most
QUALITY = (30, 95)
UNIT = 16  # pixels of a side of the units of a 4:2:0 file: four blocks of luma and one of either chroma
RADIUS = 3  # pixels of the blur: three deviations, and less than UNIT
BLACK, WHITE = 16, 235  # of studio luma


def damage_patch(
    picture: Raster, corner: Corner, side: int, *, kinds: Collection[str], rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return a patch of a low-resolution picture, half of the time as it is, else damaged by ``kinds``.

    Args:
        picture: (c, h, w) in 1 / FRACTION grey level; studio luma or full-range R, G, B.
        corner: where the patch begins.
        side: of the patch.
        kinds: names in DAMAGES; they are applied in its order.
        rng: decides.

    Returns:
        (c, side, side) in 1 / FRACTION grey level, where damaged new float32.
    """
    if rng.random() < CLEAN:
        return part(picture, corner, side)
    top, left = (max(n - UNIT - int(rng.integers(UNIT)), 0) for n in corner)  # of what a file would begin with
    bottom, right = (n + -(-(m + side + UNIT - n) // UNIT) * UNIT for n, m in zip((top, left), corner, strict=True))
    black, white = (BLACK, WHITE) if picture.shape[0] == 1 else (0, 255)
    unit, zero = np.float32(FRACTION * (white - black) / 255), np.float32(FRACTION * black)  # of full-range levels
    levels: Planes = (np.asarray(picture[:, top:bottom, left:right], np.float32) - zero) / unit
    for name, damage in DAMAGES.items():
        if name in kinds:
            levels = damage(levels, rng)
    return part(levels * unit + zero, (corner[0] - top, corner[1] - left), side)


def blur(levels: Planes, rng: np.random.Generator) -> Planes:
    """Return ``levels`` blurred by a Gaussian."""
    size, sigma = (2 * RADIUS + 1,) * 2, float(rng.uniform(*BLUR))
    return np.stack([cv2.GaussianBlur(plane, size, sigma, borderType=cv2.BORDER_REFLECT) for plane in levels])


def add_noise(levels: Planes, rng: np.random.Generator) -> Planes:
    """Return ``levels`` with noise, not clipped."""
    a, b = rng.uniform(0.0, NOISE, 2)
    deviation = np.sqrt(np.float32(a**2) + np.float32(b**2 / 255) * np.clip(levels, 0, 255))
    return np.asarray(levels + deviation * rng.standard_normal(levels.shape, np.float32), np.float32)


def compress(levels: Planes, rng: np.random.Generator) -> Planes:
    """Return what a JPEG file of ``levels`` holds, in whole levels."""
    return through_jpeg(levels, int(rng.integers(QUALITY[0], QUALITY[1] + 1)))


def through_jpeg(levels: Planes, quality: int) -> Planes:
    """Return full-range grey levels, float32 (1 or 3, h, w), as they are read from a JPEG file of that quality."""
    pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[::-1]  # OpenCV's order is B, G, R
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    assert found is not None
    return np.moveaxis(found.reshape(*levels.shape[1:], len(levels)), -1, 0)[::-1].astype(np.float32)


DAMAGES: dict[str, Callable[[Planes, np.random.Generator], Planes]] = {"blur": blur, "noise": add_noise, "jpeg": compress}
"""Kinds of damage to full-range grey levels, float32 (c, h, w), in the order in which a photograph meets them."""

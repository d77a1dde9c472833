"""Picture files as the planes a network reads or is measured against: luma and RGB, float32, in grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.degrade import Color, Plane, Planes
from sr_deploy.luma import luma_from_rgb
from sr_deploy.pictures import open_picture

GREY_MODES = frozenset({"1", "L", "LA"})


def is_grey(image: Image.Image) -> bool:
    """Return whether the picture has one colour channel (bilevel and grey+alpha included)."""
    return image.mode in GREY_MODES


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return uint8 (h, w, 3) in R, G, B order; a grey picture gives three equal channels."""
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when a palette with transparency goes straight to RGB
    return np.asarray(image.convert("RGB"))


def read_rgb_planes(path: Path) -> Planes:
    """Return R, G, B in grey levels, 0..255: float32 (3, h, w); a grey picture gives three equal channels."""
    return np.ascontiguousarray(np.moveaxis(read_rgb(path), -1, 0)).astype(np.float32)


def read_seen(path: Path, color: Color) -> Planes:
    """Return what a network of ``color`` sees in use, in whole grey levels: float32 (h, w) studio luma, or (3, h, w) RGB."""
    return read_studio_luma(path) if color == "y" else read_rgb_planes(path)


def read_measured(path: Path, color: Color, *, rounded: bool = True) -> Planes:
    """Return what a network of ``color`` is measured against, in grey levels: float32 (h, w) luma, or (3, h, w) RGB.

    Whole levels; luma of a colour picture is as it was computed where it is not to be ``rounded``.
    """
    return read_luma(path, rounded=rounded) if color == "y" else read_rgb_planes(path)


def read_studio_luma(path: Path) -> Plane:
    """Return luma in grey levels and studio range (16..235), rounded: float32 (h, w).

    A grey picture is treated as its RGB copy, as ``sr-infer`` does: what a network sees in use is what it is calibrated on.
    """
    return np.rint(luma_from_rgb(rgb_pixels(open_picture(path))))


def read_unrounded_luma(path: Path) -> Plane:
    """Return :func:`read_studio_luma` before it is rounded: what a network reads of a low-resolution picture in use."""
    return luma_from_rgb(rgb_pixels(open_picture(path)))


def read_luma(path: Path, *, rounded: bool = True) -> Plane:
    """Return luma in grey levels, rounded to integers unless asked otherwise: float32 (h, w).

    BT.601 studio range (16..235) of a colour picture, the samples as they are (0..255) of a grey one, as the
    super-resolution literature measures.
    """
    image = open_picture(path)
    if is_grey(image):
        return np.asarray(image.convert("L")).astype(np.float32)
    luma = luma_from_rgb(rgb_pixels(image))
    return np.rint(luma) if rounded else luma


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return full-range RGB, uint8 (h, w, 3); a grey picture is its RGB copy, transparency is left out.

    Raises:
        InputError: as :func:`open_picture`.
    """
    return rgb_pixels(open_picture(path))

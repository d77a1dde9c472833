"""Luma as the super-resolution literature measures it: BT.601 studio range (MATLAB's ``rgb2ycbcr``).

ITU-R BT.601-7: Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1]; Y spans 16..235, Cb and Cr 16..240
around 128. Training, calibration and inference all use Y / 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORWARD = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float64
)  # rows: Y, Cb, Cr for R, G, B in [0, 1]
OFFSET = np.array([16.0, 128.0, 128.0], np.float64)
INVERSE = np.linalg.inv(FORWARD)


def luma_from_rgb(rgb: NDArray[np.uint8 | np.uint16 | np.float32]) -> NDArray[np.float32]:
    """Return luma in grey levels, 16..235 and unrounded: float32 (h, w) from uint8 (h, w, 3) in R, G, B order."""
    weights = (FORWARD[0] / 255.0).astype(np.float32)
    return np.asarray(rgb.astype(np.float32) @ weights + np.float32(OFFSET[0]), np.float32)


def luma_from_planes(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return luma in grey levels, unrounded: float32 (h, w) from R, G, B in grey levels, float32 (3, h, w)."""
    weights = (FORWARD[0] / 255.0).astype(np.float32)
    return np.asarray(np.tensordot(weights, planes, axes=1) + np.float32(OFFSET[0]), np.float32)


def ycbcr_from_rgb(rgb: NDArray[np.uint8 | np.uint16 | np.float32]) -> NDArray[np.float32]:
    """Return Y, Cb, Cr in grey levels, unrounded: float32 (3, h, w) from uint8 or float32 (h, w, 3) in grey levels.

    Chroma is computed from R - G and B - G, so that a grey pixel has exactly 128.
    """
    matrix = (FORWARD / 255.0).astype(np.float32)
    r, g, b = np.moveaxis(rgb, -1, 0).astype(np.float32, order="C")
    out = np.empty((3, *g.shape), np.float32)
    out[0] = matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b + np.float32(OFFSET[0])
    r -= g
    b -= g
    out[1] = matrix[1, 0] * r + matrix[1, 2] * b + np.float32(OFFSET[1])
    out[2] = matrix[2, 0] * r + matrix[2, 2] * b + np.float32(OFFSET[2])
    return out


def levels_from_ycbcr(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return R, G, B in grey levels, neither rounded nor clipped: float32 (h, w, 3) from Y, Cb, Cr, float32 (3, h, w).

    Where both chroma planes are 128 the three channels are equal to the last bit.
    """
    blue, red = planes[1] - np.float32(OFFSET[1]), planes[2] - np.float32(OFFSET[2])
    grey = (planes[0] - np.float32(OFFSET[0])) * np.float32(255.0 / 219.0)
    matrix = (INVERSE * 255.0).astype(np.float32)
    out = np.empty((*grey.shape, 3), np.float32)
    for channel in range(3):
        out[..., channel] = grey + matrix[channel, 1] * blue + matrix[channel, 2] * red
    return out


def rgb_from_ycbcr(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return rounded and clipped uint8 (h, w, 3) from Y, Cb, Cr in grey levels, float32 (3, h, w)."""
    return np.asarray(np.clip(np.rint(levels_from_ycbcr(planes)), 0, 255), np.uint8)

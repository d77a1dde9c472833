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


def luma_from_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return luma in grey levels, 16..235 and unrounded: float32 (h, w) from uint8 (h, w, 3) in R, G, B order."""
    weights = (FORWARD[0] / 255.0).astype(np.float32)
    return np.asarray(rgb.astype(np.float32) @ weights + np.float32(OFFSET[0]), np.float32)


def luma_from_planes(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return luma in grey levels, unrounded: float32 (h, w) from R, G, B in grey levels, float32 (3, h, w)."""
    weights = (FORWARD[0] / 255.0).astype(np.float32)
    return np.asarray(np.tensordot(weights, planes, axes=1) + np.float32(OFFSET[0]), np.float32)


def ycbcr_from_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return Y, Cb, Cr in grey levels, unrounded: float32 (3, h, w) from uint8 (h, w, 3)."""
    matrix = (FORWARD / 255.0).astype(np.float32)
    planes = np.moveaxis(rgb.astype(np.float32) @ matrix.T, -1, 0) + OFFSET.astype(np.float32)[:, None, None]
    return np.ascontiguousarray(planes, np.float32)


def rgb_from_ycbcr(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return rounded and clipped uint8 (h, w, 3) from Y, Cb, Cr in grey levels, float32 (3, h, w)."""
    matrix = (INVERSE * 255.0).astype(np.float32)
    centred = np.moveaxis(planes, 0, -1) - OFFSET.astype(np.float32)
    return np.asarray(np.clip(np.rint(centred @ matrix.T), 0, 255), np.uint8)

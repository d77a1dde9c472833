"""PSNR and SSIM of luma as the super-resolution literature reports them, for any callable.

The high-resolution luma is cropped to a multiple of the scale and shrunk (``degrade``); what the callable makes of it
is rounded, clipped to 0..255 and compared after ``scale`` pixels were cut from each border. A grey level is 1 of 255.

Networks for RGB are measured in luma too: original and result are RGB in whole grey levels, and luma of both is
compared unrounded, as EDSR's authors do (CVPRW 2017, section 4.1). What they read is in whole grey levels too: published figures
come from low-resolution files of 8 bits. Luma networks compare rounded luma and read it unrounded, as VDSR's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sr_deploy.degrade import Plane, Planes, bicubic_pair, crop_to_multiple, imresize
from sr_deploy.luma import luma_from_planes

Enlarge = Callable[[Planes, int], Planes]
"""A small picture, float32 (h, w) luma or (3, h, w) RGB, nominally in [0, 1], and a scale, to it ``scale`` times as large."""

Restore = Callable[[Plane], Plane]
"""A network that keeps the size: enlarged luma, float32 (h, w), nominally in [0, 1], to sharper luma (h, w)."""

FIXED_SIDE = 256
EQUAL_DB = 100.0  # the PSNR of equal pictures, and the most that is reported: an infinite one would make every mean infinite
NO_NUMBER_DB = -EQUAL_DB  # where a value is no finite number
SEEN_DB = 20.0 * math.log10(255.0)  # an error of one grey level everywhere; nobody sees what is lost above it


@dataclass(frozen=True)
class Score:
    """Quality of one picture against its original."""

    psnr_db: float
    ssim: float


def levels(plane: Planes, *, rounded: bool = True) -> Planes:
    """Return planes in [0, 1] as grey levels: float32, clipped to 0..255, whole unless asked otherwise."""
    scaled = plane * np.float32(255.0)
    return np.asarray(np.clip(np.rint(scaled) if rounded else scaled, 0.0, 255.0), np.float32)


def luma_of(planes: Planes) -> Plane:
    """Return the luma of a picture in grey levels: float32 (h, w), luma as it is, RGB by BT.601."""
    return luma_from_planes(planes) if planes.ndim == 3 else planes


def shaved(plane: Planes, pixels: int) -> Planes:
    """Return ``plane`` without ``pixels`` at each border (a view).

    Raises:
        ValueError: nothing would be left.
    """
    h, w = plane.shape[-2:]
    if min(h, w) <= 2 * pixels:
        raise ValueError(f"a {h}x{w} plane has nothing left after cutting {pixels} pixels from each border")
    return plane[..., pixels : h - pixels, pixels : w - pixels]


def psnr(a: Planes, b: Planes, *, shave: int = 0) -> float:
    """Return the peak signal-to-noise ratio in dB of two planes, or all their channels, in grey levels (peak 255).

    ``EQUAL_DB`` if they are equal, ``NO_NUMBER_DB`` if one holds a value that is not a finite number.
    """
    difference = shaved(a, shave).astype(np.float64) - shaved(b, shave)
    return psnr_from_error(float(np.mean(difference * difference)))


def psnr_from_error(error: float) -> float:
    """Return the PSNR in dB of a mean squared error in grey levels (peak 255), as :func:`psnr` does."""
    if not math.isfinite(error):
        return NO_NUMBER_DB
    return EQUAL_DB if error == 0.0 else max(NO_NUMBER_DB, min(10.0 * math.log10(255.0**2 / error), EQUAL_DB))


def lost_db(reference_db: float, psnr_db: float) -> float:
    """Return how much of a picture's PSNR is lost; what both have above ``SEEN_DB`` does not count.

    A flat picture comes out exactly, or one level off: tens of dB that nobody sees.
    """
    return min(reference_db, SEEN_DB) - min(psnr_db, SEEN_DB)


def ssim(a: Plane, b: Plane, *, shave: int = 0) -> float:
    """Return the mean structural similarity of two planes in grey levels.

    Wang et al., IEEE TIP 2004: 11x11 Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, valid area only.

    Raises:
        ValueError: less than 11x11 pixels are left after shaving.
    """
    x, y = (shaved(p, shave).astype(np.float64) for p in (a, b))
    if min(x.shape) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels, {x.shape[0]}x{x.shape[1]} are left")
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    mx, my = _window(x), _window(y)
    vx, vy, vxy = _window(x * x) - mx * mx, _window(y * y) - my * my, _window(x * y) - mx * my
    similarity = ((2.0 * mx * my + c1) * (2.0 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity.mean())


def _window(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
    return np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel), np.float64)[5:-5, 5:-5]


def bicubic(lr: Planes, scale: int) -> Planes:
    """Enlarge by MATLAB's bicubic: the reference every network has to beat."""
    return imresize(lr, float(scale))


def score(enlarge: Enlarge, hr: Planes, scale: int) -> Score:
    """Return the quality of ``enlarge`` on one picture; ``hr`` is luma, float32 (h, w), or RGB, (3, h, w), in grey levels."""
    sr, hr = enlarged_pair(enlarge, hr, scale)
    return compare(levels(sr), hr, scale)


def enlarged_pair(enlarge: Enlarge, hr: Planes, scale: int) -> tuple[Planes, Planes]:
    """Return ``(sr, hr)``: what ``enlarge`` makes of a degraded picture, and the original cropped to a multiple of ``scale``.

    ``hr`` is in grey levels; ``sr`` is of its rank, nominally in [0, 1], neither rounded nor clipped. A degraded RGB picture is
    rounded and clipped to whole grey levels, luma is not.
    """
    hr = crop_to_multiple(hr, scale)
    lr = imresize(hr, 1.0 / scale) / np.float32(255.0)
    return enlarge(levels(lr) / np.float32(255.0) if lr.ndim == 3 else lr, scale), hr


def fixed_pair(restore: Restore, hr: Plane, scale: int) -> tuple[Plane, Plane]:
    """Return ``(sr, hr)`` as :func:`enlarged_pair` does, by the fixed-256 protocol.

    The bicubic-enlarged luma is resized to 256x256 (``cv2.resize``, bilinear), goes through the network, is resized
    back to the picture's size and compared there. It measures a network that keeps the size, not an enlargement.
    """
    enlarged, hr = bicubic_pair(hr, scale)
    square = cv2.resize(enlarged / np.float32(255.0), (FIXED_SIDE, FIXED_SIDE), interpolation=cv2.INTER_LINEAR)
    restored = restore(np.asarray(square, np.float32))
    back = cv2.resize(restored, (hr.shape[1], hr.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.float32), hr


def compare(sr: Planes, hr: Planes, scale: int) -> Score:
    """Return the quality in luma of ``sr`` against ``hr``, both in grey levels and of one size, ``scale`` pixels shaved."""
    sr, hr = luma_of(sr), luma_of(hr)
    return Score(psnr(sr, hr, shave=scale), ssim(sr, hr, shave=scale))


def mean(scores: Sequence[Score]) -> Score:
    """Return the mean of each figure over pictures, as published tables do (of decibels, not of errors)."""
    return Score(
        float(np.mean([s.psnr_db for s in scores])),
        float(np.mean([s.ssim for s in scores])),
    )

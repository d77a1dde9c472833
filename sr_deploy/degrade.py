"""MATLAB's antialiased bicubic ``imresize``, the degradation of the super-resolution literature.

Published PSNR figures are only comparable when low-resolution pictures were made by MATLAB's ``imresize(hr, 1/s)``:
Keys' cubic kernel (a = -0.5; Keys, IEEE TASSP 1981), stretched by the factor when shrinking (antialiasing), pixel
centres at half-integers, symmetric extension at the border, rows before columns. OpenCV and Pillow differ in at least
one of these. Set5 comes out at 33.66 / 30.39 / 28.42 dB for x2 / x3 / x4, as published.

The resize is separable and linear: an axis is ``n_out`` weighted sums of ``taps`` input samples, so it is exactly
reproducible on any slice of a picture, which the banded run-time relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Upscale = Literal["before", "inside"]
"""Where the enlargement happens: by bicubic before the network, or inside it."""

Color = Literal["y", "rgb"]
"""What a network enlarges: luma, or red, green and blue."""

Plane = NDArray[np.float32]
"""One channel of a picture: float32 (h, w)."""

Planes = NDArray[np.float32]
"""One channel, float32 (h, w), or several of one size, (c, h, w)."""


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic convolution kernel (a = -0.5) at ``x``, in units of samples."""
    ax = np.abs(x)
    inner = 1.5 * ax**3 - 2.5 * ax**2 + 1.0
    outer = -0.5 * ax**3 + 2.5 * ax**2 - 4.0 * ax + 2.0
    return np.where(ax <= 1.0, inner, np.where(ax <= 2.0, outer, 0.0))


@dataclass(frozen=True)
class Axis:
    """Weighted sums along one axis: output ``i`` is ``sum_k weights[i, k] * x[index[i, k]]``."""

    index: NDArray[np.intp]  # (n_out, taps), already reflected into the input
    weights: NDArray[np.float32]  # (n_out, taps), each row sums to 1


@lru_cache(maxsize=256)
def axis_weights(n_in: int, n_out: int, scale: float) -> Axis:
    """Return the weighted sums that resize ``n_in`` samples to ``n_out`` at ``scale`` (output over input)."""
    return axis_at(n_in, (np.arange(n_out, dtype=np.float64) + 0.5) / scale - 0.5, scale)


def axis_at(n_in: int, centre: NDArray[np.float64], scale: float) -> Axis:
    """Return the weighted sums for outputs at ``centre``, in input samples; below a ``scale`` of 1 the kernel is stretched."""
    stretch = min(scale, 1.0)
    support = 4.0 / stretch
    left = np.floor(centre - support / 2.0).astype(np.intp)
    taps = int(np.ceil(support)) + 2
    raw = left[:, None] + np.arange(taps)
    weights = stretch * cubic(stretch * (centre[:, None] - raw))
    weights /= weights.sum(axis=1, keepdims=True)
    reflected = np.mod(raw, 2 * n_in)
    index = np.where(reflected >= n_in, 2 * n_in - 1 - reflected, reflected)
    used = np.flatnonzero(np.any(weights != 0.0, axis=0))
    keep = slice(int(used[0]), int(used[-1]) + 1)
    return Axis(index[:, keep], weights[:, keep].astype(np.float32))


def resize_rows(plane: Plane, axis: Axis) -> Plane:
    """Return ``plane`` resized along its first dimension, a new float32 (n_out, w) array."""
    out = np.zeros((axis.index.shape[0], plane.shape[1]), np.float32)
    for k in range(axis.index.shape[1]):
        out += axis.weights[:, k, None] * plane[axis.index[:, k]]
    return out


def resize_columns(plane: Plane, axis: Axis) -> Plane:
    """Return ``plane`` resized along its second dimension, a new C-contiguous float32 (h, n_out) array."""
    return np.ascontiguousarray(resize_rows(np.ascontiguousarray(plane.T), axis).T)


def imresize(plane: Planes, scale: float, *, size: tuple[int, int] | None = None) -> Planes:
    """Return ``plane`` resized as MATLAB's ``imresize(plane, scale, 'bicubic')`` does, each channel for itself.

    Args:
        plane: float32 (h, w) or (c, h, w), any range; values may overshoot it by about 15 % at edges, nothing is clipped.
        scale: output over input, below 1 shrinks with antialiasing.
        size: output (h, w); ``None`` is ``ceil(scale * side)``, MATLAB's own choice.

    Raises:
        ValueError: ``plane`` has another number of dimensions or is empty, or ``scale`` is not positive.
    """
    if plane.ndim not in (2, 3) or not plane.size or scale <= 0.0:
        raise ValueError(f"imresize: needs a non-empty (h, w) or (c, h, w) and a positive scale; got {plane.shape}, {scale}")
    if plane.ndim == 3:
        return np.stack([imresize(channel, scale, size=size) for channel in plane])
    h, w = plane.shape
    out_h, out_w = size or (int(np.ceil(h * scale - 1e-9)), int(np.ceil(w * scale - 1e-9)))
    plane = plane.astype(np.float32, copy=False)
    return resize_columns(resize_rows(plane, axis_weights(h, out_h, scale)), axis_weights(w, out_w, scale))


def through_channels(run: Callable[[Planes], Planes], planes: Planes) -> Planes:
    """Return what ``run`` makes of a picture as (c, h, w), in the rank that ``planes`` has."""
    return run(planes) if planes.ndim == 3 else run(planes[None])[0]


def crop_to_multiple(plane: Planes, scale: int) -> Planes:
    """Return the top-left part of ``plane`` whose sides are multiples of ``scale`` (a view)."""
    h, w = plane.shape[-2:]
    return plane[..., : h - h % scale, : w - w % scale]


def bicubic_pair(hr: Planes, scale: int) -> tuple[Planes, Planes]:
    """Return ``(enlarged, hr)``: ``hr`` shrunk by ``scale`` and enlarged again, both cropped to a multiple of it.

    The low-resolution planes in between stay unrounded, as in the literature. Float32 (h, w) or (c, h, w), the range of ``hr``.
    """
    hr = crop_to_multiple(hr, scale)
    return imresize(imresize(hr, 1.0 / scale), float(scale), size=(hr.shape[-2], hr.shape[-1])), hr


def network_pair(hr: Planes, scale: int, upscale: Upscale) -> tuple[Planes, Planes]:
    """Return ``(given, hr)``: what a network reads of a degraded picture, and the original cropped to a multiple of ``scale``.

    ``before``: shrunk and enlarged again, of the size of ``hr``; ``inside``: shrunk, for networks that enlarge. Float32, of the
    rank of ``hr``, unrounded, in its range.
    """
    if upscale == "before":
        return bicubic_pair(hr, scale)
    hr = crop_to_multiple(hr, scale)
    return imresize(hr, 1.0 / scale), hr


def given_size(size: tuple[int, int], scale: int, upscale: Upscale) -> tuple[int, int]:
    """Return (h, w) of what a network reads of a degraded picture of ``size``: of :func:`network_pair`'s first result."""
    h, w = (side // scale for side in size)
    return (h * scale, w * scale) if upscale == "before" else (h, w)


def enlarge_band(rows: Callable[[int, int], Plane], shape: tuple[int, int], scale: int, band: tuple[int, int]) -> Plane:
    """Return output rows ``band[0]:band[1]`` of a plane enlarged by ``scale``, bit for bit those of ``imresize``.

    Args:
        rows: returns the source rows ``[first, last)`` as float32 (n, w); only those that are needed are asked for.
        shape: (h, w) of the source.
        scale: an integer factor; 1 returns the rows as they are.
        band: first and last + 1 output row, within ``[0, scale * h]``.
    """
    if scale == 1:
        return rows(*band)
    h, w = shape
    axis = axis_weights(h, h * scale, float(scale))
    index, weights = axis.index[band[0] : band[1]], axis.weights[band[0] : band[1]]
    first, last = int(index.min()), int(index.max()) + 1
    part = resize_rows(rows(first, last), Axis(index - first, weights))
    return resize_columns(part, axis_weights(w, w * scale, float(scale)))

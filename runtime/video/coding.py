"""What the samples of a frame mean: depth, range, matrix, where colour samples lie; and the arithmetic between two codings.

A video's frames stay in Y'CbCr. A luma network gets Y in the BT.601 studio range it was trained on, which limited range is: 16 to
235 at 8 bits, four times that at 10. Full-range luma is brought there and back. Y of BT.709 and BT.2020 weighs red, green and
blue otherwise than BT.601 does, and is given as it is: a picture's luma all the same, with its matrix kept. Only for RGB networks
are samples converted, by the video's own matrix, in float32, and back by the same.

Colour samples of subsampled formats lie on the left luma sample of their pair and midway between rows (H.264 and HEVC, type 0,
the default of everything since MPEG-2). MPEG-1 and Motion JPEG put them midway in both directions. They are enlarged by where
they lie, so that colour does not move against luma.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_deploy.degrade import Axis, Plane, Planes, axis_at, resize_columns, resize_rows

Samples = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""One plane of a frame: (h, w) in code values of its depth; float32 where they are not rounded yet."""

KR_KB = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG, BT.601
    6: (0.299, 0.114),  # SMPTE 170M, BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),  # of constant luminance: taken for the other one, as FFmpeg's scaler does
}
"""Weights of red and blue in luma, by the number of the matrix (ITU-T H.273, table 4)."""

SD_HEIGHT = 576  # up to here an untagged video is BT.601, above it BT.709, as players take it


@dataclass(frozen=True)
class Sites:
    """Where colour samples lie along one axis, in luma pixels: sample ``i`` at ``step * i + first``."""

    step: int = 1
    first: float = 0.0

    def flipped(self, luma: int, colour: int) -> Sites:
        """Return the sites in the mirrored frame of ``luma`` pixels and ``colour`` samples."""
        return Sites(self.step, luma - 1 - (self.step * (colour - 1) + self.first))


@dataclass(frozen=True)
class Coding:
    """What code values mean."""

    depth: int = 8  # bits
    full: bool = False  # range: 0 to 2 ** depth - 1 instead of 16 to 235 (at 8 bits)
    across: Sites = Sites()
    down: Sites = Sites()
    weights: tuple[float, float] = KR_KB[1]  # of red and blue in luma

    @property
    def largest(self) -> int:
        """The largest code value."""
        return (1 << self.depth) - 1

    @property
    def middle(self) -> int:
        """The code value of no colour."""
        return 1 << self.depth - 1


def studio_from_luma(luma: Samples, coding: Coding) -> Plane:
    """Return luma in grey levels of 8-bit studio range, unrounded: float32."""
    values = luma.astype(np.float32)
    if coding.full:
        return np.asarray(values * np.float32(219.0 / coding.largest) + np.float32(16.0), np.float32)
    return np.asarray(values * np.float32(2.0 ** (8 - coding.depth)), np.float32)


def luma_from_studio(studio: Plane, coding: Coding) -> Plane:
    """Return code values, unrounded and not clipped, from luma in grey levels of 8-bit studio range."""
    if coding.full:
        return np.asarray((studio - np.float32(16.0)) * np.float32(coding.largest / 219.0), np.float32)
    return np.asarray(studio * np.float32(2.0 ** (coding.depth - 8)), np.float32)


def recode_colour(colour: Plane, source: Coding, target: Coding) -> Plane:
    """Return the code values of a colour plane in another depth and the same range, unrounded."""
    if source.depth == target.depth:
        return colour
    gain = target.largest / source.largest if source.full else 2.0 ** (target.depth - source.depth)
    return np.asarray((colour - source.middle) * np.float32(gain) + target.middle, np.float32)


def store_rounded(values: Plane, coding: Coding, out: Samples) -> None:
    """Write code values, rounded and clipped, into ``out``."""
    out[...] = np.clip(np.rint(values), 0, coding.largest)


def rgb_from_planes(luma: Samples, colour: tuple[Plane, Plane], coding: Coding) -> Planes:
    """Return R, G, B in [0, 1], clipped: float32 (3, h, w), from planes of one size in code values."""
    kr, kb = coding.weights
    y = (studio_from_luma(luma, coding) - np.float32(16.0)) / np.float32(219.0)
    unit = coding.largest if coding.full else 224.0 * 2.0 ** (coding.depth - 8)
    cb, cr = ((plane - np.float32(coding.middle)) / np.float32(unit) for plane in colour)
    red, blue = y + np.float32(2 - 2 * kr) * cr, y + np.float32(2 - 2 * kb) * cb
    green = (y - np.float32(kr) * red - np.float32(kb) * blue) / np.float32(1 - kr - kb)
    return np.asarray(np.clip(np.stack([red, green, blue]), 0.0, 1.0), np.float32)


def planes_from_rgb(rgb: Planes, coding: Coding) -> tuple[Plane, Plane, Plane]:
    """Return Y, Cb, Cr in code values, unrounded, from R, G, B in [0, 1], float32 (3, h, w)."""
    kr, kb = coding.weights
    y = np.float32(kr) * rgb[0] + np.float32(1 - kr - kb) * rgb[1] + np.float32(kb) * rgb[2]
    unit = coding.largest if coding.full else 224.0 * 2.0 ** (coding.depth - 8)
    cb, cr = (
        (side - y) * np.float32(unit / (2 - 2 * weight)) + np.float32(coding.middle)
        for side, weight in ((rgb[2], kb), (rgb[0], kr))
    )
    return luma_from_studio(y * np.float32(219.0) + np.float32(16.0), coding), cb, cr


def sited_axis(n_in: int, n_out: int, scale: int, sites: tuple[Sites, Sites]) -> Axis:
    """Return the weighted sums from ``n_in`` samples at the first of ``sites`` to ``n_out`` at the second, in a frame ``scale``
    times as long: a luma pixel ``x`` of it lies at ``(x + 0.5) / scale - 0.5`` of the source.
    """  # noqa: D205
    given, wanted = sites
    luma = (wanted.step * np.arange(n_out, dtype=np.float64) + wanted.first + 0.5) / scale - 0.5
    return axis_at(n_in, (luma - given.first) / given.step, scale * given.step / wanted.step)


def resite(plane: Samples, size: tuple[int, int], scale: int, codings: tuple[Coding, Coding]) -> Plane:
    """Return a colour plane enlarged from where its samples lie to where those of the other coding lie: float32 ``size``.

    Antialiased bicubic, as everywhere in this project; code values stay those of the first coding.
    """
    given, wanted = codings
    rows = sited_axis(plane.shape[0], size[0], scale, (given.down, wanted.down))
    columns = sited_axis(plane.shape[1], size[1], scale, (given.across, wanted.across))
    return resize_columns(resize_rows(plane.astype(np.float32), rows), columns)

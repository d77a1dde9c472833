"""A picture and its degradation as they are kept, where patches may begin in them, and how one is cut.

The original is kept as uint8 grey levels, the degraded picture in 1/64 grey level as int16: it stays unrounded, as in the
literature, to 1/128 of a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_deploy.degrade import Upscale, imresize

FRACTION = 64  # degraded planes are kept in 1/64 grey level
GRID = 8  # spacing in pixels of the patch positions whose detail is weighed

Planes = NDArray[np.float32]
"""The channels of a picture in grey levels: float32 (c, h, w); c is 1 for luma and 3 for RGB."""

Corner = tuple[int, int]
"""Row and column of the pixel at which a patch begins."""


class Raster(Protocol):
    """Planes that patches are cut from, in memory or on disk: (c, h, w)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, slice, slice], /) -> NDArray[np.generic]: ...


Part = Callable[[Raster, Corner, int], NDArray[np.generic]]
"""Returns the square patch of planes at a corner, of a side: (c, side, side)."""


class Place(NamedTuple):
    """Where a patch is cut from an original, and how it is turned."""

    corner: Corner
    turns: int  # quarters
    mirror: bool  # after turning


@dataclass(frozen=True)
class Positions:
    """Where patches of one picture begin, on a grid of ``GRID`` pixels, and how likely each position is."""

    rows: int
    columns: int
    cumulative: Raster | None = None  # float64 (1, rows, columns) running sum of the weights; None: all are 1

    @cached_property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.rows * self.columns if self.cumulative is None else self._running()[-1])

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return row and column of a position, drawn by weight."""
        if self.cumulative is None:  # what draw() finds in 1, 2, 3, ... without keeping it
            number = min(int(rng.random() * self.total), self.rows * self.columns - 1)
        else:
            number = draw(self._running(), rng)
        return divmod(number, self.columns)

    def _running(self) -> NDArray[np.float64]:
        assert self.cumulative is not None
        return np.asarray(self.cumulative[:, :, :], np.float64).reshape(-1)


@dataclass(frozen=True)
class Pair:
    """One picture at one scale."""

    degraded: Raster  # int16 (c, h, w), or (c, h / scale, w / scale) where the network enlarges; in 1 / FRACTION grey level
    original: Raster  # uint8 (c, at least h, at least w), grey levels
    size: tuple[int, int]  # h and w of the part of the original that belongs to the degraded picture
    positions: Positions


class Degradation:
    """What is made of one original at one scale, each part when it is first asked for."""

    def __init__(self, original: Raster, scale: int) -> None:
        """Degrade ``original``: uint8 (c, h, w) grey levels, cut to a multiple of ``scale``."""
        self.original, self.scale = original, scale

    @cached_property
    def hr(self) -> Planes:
        """The part of the original that is degraded: float32 (c, h, w)."""
        h, w = (n - n % self.scale for n in self.original.shape[1:])
        return np.asarray(self.original[:, :h, :w], np.float32)

    @cached_property
    def small(self) -> Planes:
        """The low-resolution picture: float32 (c, h / scale, w / scale), unrounded."""
        return np.stack([imresize(plane, 1.0 / self.scale) for plane in self.hr])

    @cached_property
    def enlarged(self) -> Planes:
        """Its bicubic enlargement: float32 (c, h, w)."""
        size = (self.hr.shape[1], self.hr.shape[2])
        return np.stack([imresize(plane, float(self.scale), size=size) for plane in self.small])

    def given(self, upscale: Upscale) -> NDArray[np.int16]:
        """Return what a network reads, in 1 / FRACTION grey level."""
        limit = np.iinfo(np.int16)
        planes = self.enlarged if upscale == "before" else self.small
        return np.clip(np.rint(planes * FRACTION), limit.min, limit.max).astype(np.int16)

    def running_weights(self, side: int, detail: float) -> NDArray[np.float64]:
        """Return the running sum over :func:`positions` of (mean squared error of bicubic in the patch) ** ``detail``.

        The error is the mean over channels. Float64 (1, rows, columns).
        """
        error = np.mean((self.enlarged - self.hr).astype(np.float64) ** 2, axis=0)
        weights = box_means(error, side)[::GRID, ::GRID] ** detail
        return np.asarray(np.cumsum(weights), np.float64).reshape(1, *weights.shape)


def positions(size: tuple[int, int], side: int) -> Positions:
    """Return the positions of ``side`` x ``side`` patches in a picture of ``size``, all equally likely."""
    return Positions((size[0] - side) // GRID + 1, (size[1] - side) // GRID + 1)


def box_means(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the mean of every ``side`` x ``side`` window: (h - side + 1, w - side + 1), never negative."""
    total = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return np.asarray(np.maximum(sums, 0.0) / side**2, np.float64)


def place(pair: Pair, side: int, step: int, rng: np.random.Generator) -> Place:
    """Return a random place for a patch in ``pair``; see :func:`cut`."""
    row, column = pair.positions.draw(rng)
    h, w = pair.size
    top = min(row * GRID + int(rng.integers(GRID)), h - side)
    left = min(column * GRID + int(rng.integers(GRID)), w - side)
    return Place((top - top % step, left - left % step), int(rng.integers(4)), bool(rng.integers(2)))


def part(planes: Raster, corner: Corner, side: int) -> NDArray[np.generic]:
    """Return the patch of ``planes`` as it is: a view."""
    top, left = corner
    return planes[:, top : top + side, left : left + side]


def cut(pair: Pair, at: Place, side: int, step: int, given: Part = part) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return a degraded and an original patch of one place, flipped and turned alike.

    Args:
        pair: what to cut.
        at: the place.
        side: of the original patch.
        step: pixels of the original to one of the degraded picture.
        given: makes the patch of the degraded picture.
    """
    top, left = at.corner
    degraded = given(pair.degraded, (top // step, left // step), side // step)
    original = part(pair.original, at.corner, side)
    return turn(degraded, at.turns, mirror=at.mirror), turn(original, at.turns, mirror=at.mirror)


def turn(patch: NDArray[np.generic], turns: int, *, mirror: bool) -> NDArray[np.generic]:
    """Return (c, n, n) turned by ``turns`` quarters, then mirrored: a view."""
    patch = np.rot90(patch, turns, axes=(-2, -1))
    return patch[..., ::-1] if mirror else patch


def draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Return an index, drawn in proportion to the weights whose running sum is ``cumulative``."""
    position = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return min(position, len(cumulative) - 1)

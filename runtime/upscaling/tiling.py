"""Pictures of any size through an engine of one tile size, exactly.

The result is that of the network for the picture mirrored at its edges by the network's halo, cut back: no zero padding of its
convolutions reaches the result, which would darken borders. Tiles overlap by twice the halo, and each output pixel comes from a
tile in which it is at least a halo away from every edge.

The mirror repeats the edge pixel, as MATLAB's ``imresize`` does when it shrinks and enlarges: a picture shrunk and then mirrored
is the mirrored picture shrunk. Mirrored about the edge pixel it is half a pixel off, which costs 2.4 dB in the 8 pixels at the
border of Kodak's pictures (plain l, x2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard, Shape
from sr_deploy.degrade import through_channels
from sr_deploy.errors import InputError
from sr_deploy.runtime.backends.engine import Engine, Tiles

Item = TypeVar("Item")

Planes = NDArray[np.float32]
"""A picture or a band of it: float32 (c, h, w), in the engine's range."""

Rows = Callable[[int, int], Planes]
"""Returns rows ``[first, last)`` of a picture: (c, last - first, w)."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels."""

    start: int  # the tile covers [start, start + tile)
    low: int  # and supplies [low, high) of the result
    high: int


@dataclass(frozen=True)
class Grid:
    """How an engine cuts pictures."""

    height: int  # of a tile
    width: int
    halo: int
    factor: int  # output pixels per input pixel: 1 where the enlargement comes before the network


def grid_of(card: ModelCard) -> Grid:
    """Return the grid of an engine.

    Raises:
        InputError: the tile is not larger than twice the halo.
    """
    assert card.input_shape is not None and card.output_shape is not None
    _, _, height, width = card.input_shape
    if min(height, width) <= 2 * card.halo:
        raise InputError(
            f"tile {height}x{width} is not larger than twice the halo of {card.halo} pixels; export with --shape 1 1 256 256"
        )
    return Grid(height, width, card.halo, card.output_shape[2] // height)


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Return the tiles that cover ``length`` pixels, 1 or more; their ``[low, high)`` partition it, a halo inside each tile."""
    step = tile - 2 * halo
    lows = range(0, length, step)
    starts = [low - halo for low in lows[:-1]] + [max(length + halo - tile, -halo)]
    return [Span(start, low, min(low + step, length)) for start, low in zip(starts, lows, strict=True)]


def mirrored(start: int, end: int, length: int) -> NDArray[np.intp]:
    """Return the pixels that stand at ``[start, end)`` of an axis of ``length``, extended as np.pad's ``symmetric`` does."""
    places = np.arange(start, end) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


def tile_corners(size: tuple[int, int], tile: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the top-left corners of the tiles that cover a plane with no more overlap than its border asks for.

    Args:
        size: (h, w) of the plane, at least 1x1.
        tile: (h, w) of a tile.
    """
    down, across = (spans(n, side, 0) for n, side in zip(size, tile, strict=True))
    return [(d.start, a.start) for d in down for a in across]


def tile_at(planes: NDArray[np.float32], corner: tuple[int, int], tile: tuple[int, int]) -> NDArray[np.float32]:
    """Return the tile of (h, w) or (c, h, w) at ``corner``, extended to its full size by repeating the last row and column."""
    part = planes[..., corner[0] : corner[0] + tile[0], corner[1] : corner[1] + tile[1]]
    missing = [(0, 0)] * (part.ndim - 2) + [(0, tile[0] - part.shape[-2]), (0, tile[1] - part.shape[-1])]
    return np.pad(part, missing, mode="edge")


def batch_at(planes: NDArray[np.float32], corner: tuple[int, int], shape: Shape) -> Tiles:
    """Return the tile of (h, w) or (c, h, w) at ``corner`` as a batch of ``shape`` (n, c, h, w): ``n`` times the same."""
    tile = tile_at(planes, corner, shape[2:])
    return np.repeat(tile.reshape(1, -1, *shape[2:]), shape[0], axis=0)


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most ``count`` of ``items`` in their order, evenly chosen, the first and the last among them."""
    return [items[i] for i in sorted({round(i) for i in np.linspace(0, len(items) - 1, min(count, len(items)))})]


@dataclass(frozen=True)
class Band:
    """One row of tiles across a picture: what goes into the engine, and what of its output belongs to the result."""

    top: int  # first row of the result that it supplies
    tiles: Tiles  # (n, c, tile h, tile w)
    across: tuple[Span, ...]
    rows: tuple[int, int]  # [first, last) input rows of the tiles that count
    factor: int

    def joined(self, output: Tiles) -> Planes:
        """Return the rows of the result from the engine's output for ``tiles``: float32 (c, rows, factor * width)."""
        f, (first, last) = self.factor, self.rows
        parts = [
            tile[:, first * f : last * f, (s.low - s.start) * f : (s.high - s.start) * f]
            for tile, s in zip(output, self.across, strict=True)
        ]
        return np.concatenate(parts, axis=2)


def bands_of(card: ModelCard, rows: Rows, size: tuple[int, int]) -> Iterator[Band]:
    """Yield the bands of a picture from top to bottom; what they supply partitions the result.

    Args:
        card: of the engine.
        rows: the picture; rows are asked for from top to bottom, at most one tile's height at once.
        size: (h, w) of the picture, at least 1x1.
    """
    grid = grid_of(card)
    h, w = size
    across = tuple(spans(w, grid.width, grid.halo))
    columns = [mirrored(s.start, s.start + grid.width, w) for s in across]
    for down in spans(h, grid.height, grid.halo):
        first, last = max(down.start, 0), min(down.start + grid.height, h)
        band = rows(first, last)[:, mirrored(down.start, down.start + grid.height, h) - first]
        tiles = np.stack([band[:, :, places] for places in columns])
        yield Band(down.low * grid.factor, tiles, across, (down.low - down.start, down.high - down.start), grid.factor)


def run_bands(engine: Engine, rows: Rows, size: tuple[int, int]) -> Iterator[tuple[int, Planes]]:
    """Yield ``(first output row, band)`` from top to bottom; the bands partition the result; see :func:`bands_of`."""
    for band in bands_of(engine.card, rows, size):
        yield band.top, band.joined(engine.run(band.tiles))


def run_whole(engine: Engine, planes: Planes) -> Planes:
    """Return the engine's result for a picture in memory: float32 (c, factor * h, factor * w), not clipped."""
    bands = run_bands(engine, lambda first, last: planes[:, first:last], (planes.shape[1], planes.shape[2]))
    return np.concatenate([band for _, band in bands], axis=1)


def run_picture(engine: Engine, picture: Planes) -> Planes:
    """Return :func:`run_whole` of a picture of (h, w) or (c, h, w), in its rank."""
    return through_channels(lambda planes: run_whole(engine, planes), picture)


def useful_share(card: ModelCard) -> float:
    """Return the part of a tile's pixels that is not computed again by its neighbours, 0 to 1."""
    grid = grid_of(card)
    return (grid.height - 2 * grid.halo) * (grid.width - 2 * grid.halo) / (grid.height * grid.width)

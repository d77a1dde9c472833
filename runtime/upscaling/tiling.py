"""Pictures of any size through an engine of one tile size, exactly.

A picture at least one tile in both directions gives the whole-image result: tiles overlap by twice the network's halo,
each output pixel comes from a tile in which it is at least a halo away from every cut, and tiles at the picture's border
lie flush with it, so that the network's own zero padding falls where it would fall for the whole image. A thinner
picture is first extended to the tile by repeating its last row or column, and the result is cut back; that is its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard, Shape
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
    """Return the tiles that cover ``length`` >= ``tile`` pixels; their ``[low, high)`` partition it."""
    starts = [*range(0, length - tile, tile - 2 * halo), length - tile]
    edges = [0, *(start + tile - halo for start in starts[:-1]), length]
    return [Span(start, low, high) for start, low, high in zip(starts, edges, edges[1:], strict=False)]


def tile_corners(size: tuple[int, int], tile: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the top-left corners of the tiles that cover a plane with no more overlap than its border asks for.

    Args:
        size: (h, w) of the plane, at least 1x1.
        tile: (h, w) of a tile.
    """
    down, across = (spans(max(n, side), side, 0) for n, side in zip(size, tile, strict=True))
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
    width: int  # of the picture, in input pixels
    factor: int

    def joined(self, output: Tiles) -> Planes:
        """Return the rows of the result from the engine's output for ``tiles``: float32 (c, rows, factor * width)."""
        f, (first, last) = self.factor, self.rows
        parts = [
            tile[:, first * f : last * f, (s.low - s.start) * f : (min(s.high, self.width) - s.start) * f]
            for tile, s in zip(output, self.across, strict=True)
            if s.low < self.width
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
    across = tuple(spans(max(w, grid.width), grid.width, grid.halo))
    for down in spans(max(h, grid.height), grid.height, grid.halo):
        low, high = down.low, min(down.high, h)
        if low >= high:
            continue
        band = rows(min(down.start, h - 1), min(down.start + grid.height, h))
        thin = grid.height - band.shape[1], max(grid.width - w, 0)
        band = np.pad(band, ((0, 0), (0, thin[0]), (0, thin[1])), mode="edge")
        tiles = np.stack([band[:, :, s.start : s.start + grid.width] for s in across])
        yield Band(low * grid.factor, tiles, across, (low - down.start, high - down.start), w, grid.factor)


def run_bands(engine: Engine, rows: Rows, size: tuple[int, int]) -> Iterator[tuple[int, Planes]]:
    """Yield ``(first output row, band)`` from top to bottom; the bands partition the result; see :func:`bands_of`."""
    for band in bands_of(engine.card, rows, size):
        yield band.top, band.joined(engine.run(band.tiles))


def run_whole(engine: Engine, planes: Planes) -> Planes:
    """Return the engine's result for a picture in memory: float32 (c, factor * h, factor * w), not clipped."""
    bands = run_bands(engine, lambda first, last: planes[:, first:last], (planes.shape[1], planes.shape[2]))
    return np.concatenate([band for _, band in bands], axis=1)


def useful_share(card: ModelCard) -> float:
    """Return the part of a tile's pixels that is not computed again by its neighbours, 0 to 1."""
    grid = grid_of(card)
    return (grid.height - 2 * grid.halo) * (grid.width - 2 * grid.halo) / (grid.height * grid.width)

"""Tiles of several pictures in one run of the engine, so that small pictures do not leave most of a batch empty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.tiling import Band

Key = TypeVar("Key")
MOST_WAITING = 1000  # parts of a group, most of them without tiles


def groups(
    parts: Iterable[tuple[Key, Band | None]],
    batch: int,
    *,
    full: Callable[[list[tuple[Key, Band | None]]], bool] = lambda _: False,
) -> Iterator[list[tuple[Key, Band | None]]]:
    """Yield consecutive parts together until their tiles fill the engine's batch; what has no tiles waits for nothing.

    Args:
        parts: bands, each with what it belongs to; ``None`` where something ends.
        batch: tiles that the engine takes at once.
        full: says that a group must not wait for more.
    """
    waiting: list[tuple[Key, Band | None]] = []
    tiles = 0
    for part in parts:
        waiting.append(part)
        tiles += 0 if part[1] is None else len(part[1].tiles)
        if not 0 < tiles < batch or len(waiting) >= MOST_WAITING or full(waiting):
            yield waiting
            waiting, tiles = [], 0
    if waiting:
        yield waiting


def run_together(run: Callable[[Tiles], Tiles], bands: Sequence[Band]) -> list[Tiles]:
    """Return the engine's output for each band, all from one run."""
    given = [band.tiles for band in bands]
    if not given:
        return []
    made = run(given[0] if len(given) == 1 else np.concatenate(given))
    return list(np.split(made, np.cumsum([len(tiles) for tiles in given])[:-1]))

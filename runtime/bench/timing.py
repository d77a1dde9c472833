"""Engines timed in turns, so that what else the machine does falls on all of them alike; ratios of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Engine, Tiles

Key = TypeVar("Key")
SETTLE_MS, SETTLE_RUNS = 150.0, 3  # untimed, before each timed run of a turn: the first limit to be reached
STABLE = 0.03  # two medians in a row that differ by less: warm
MOST_WARM_UPS = 40


def best_per_tile(times: Mapping[tuple[str, int], Sequence[float]], name: str) -> NDArray[np.float64]:
    """Return the times of one tile in an engine at the batch that is fastest by tile, in milliseconds."""
    found = [np.array(values) / batch for (engine, batch), values in times.items() if engine == name]
    return min(found, key=lambda values: float(np.median(values)))


def interleaved_ms(
    engines: Mapping[Key, Engine], rounds: int, *, batches: Mapping[Key, int] | None = None
) -> dict[Key, list[float]]:
    """Return the times of one batch of tiles by engine, in milliseconds; engines take turns once all are warm.

    ``batches`` says how many tiles at once, where it is not the number in the engine's card.
    """
    rng = np.random.default_rng(0)
    times: dict[Key, list[float]] = {name: [] for name in engines}
    sizes = batches or {}
    tiles = {
        name: rng.random((sizes.get(name, tile_shape(engine.card)[0]), *tile_shape(engine.card)[1:]), np.float32)
        for name, engine in engines.items()
    }
    for name, engine in engines.items():
        warm_up(partial(one_ms, engine, tiles[name]))
    with progress("timing", rounds) as advance:
        for _ in range(rounds):
            for name, engine in engines.items():
                if len(engines) > 1:
                    settle(partial(one_ms, engine, tiles[name]))
                times[name].append(one_ms(engine, tiles[name]))
            advance("")
    return times


def settle(run_ms: Callable[[], float]) -> None:
    """Run until what the engine before left behind is over: threads of ONNX Runtime spin for some time after their last run."""
    spent = 0.0
    for _ in range(SETTLE_RUNS):
        spent += run_ms()
        if spent >= SETTLE_MS:
            return


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the second engine is as the first, from runs in pairs; as text, one line."""

    first: Path
    second: Path
    pairs: int
    quartiles: tuple[float, float, float]  # of the ratios: 25, 50 and 75 per cent

    def __str__(self) -> str:
        low, middle, high = self.quartiles
        fast = f"{self.second} is {middle:.2f} times as fast as {self.first}"
        return f"{fast} (middle half of {self.pairs} pairs: {low:.2f} to {high:.2f})"


def comparison(first: NDArray[np.float64], second: NDArray[np.float64], a: Path, b: Path) -> Comparison:
    """Return how two engines, ``a`` and ``b``, compare by their costs, taken in pairs."""
    low, middle, high = (float(ratio) for ratio in np.percentile(first / second, (25, 50, 75)))
    return Comparison(a, b, len(first), (low, middle, high))


def one_ms(engine: Engine, tiles: Tiles) -> float:
    """Return the wall time of one run in milliseconds."""
    began = time.perf_counter()
    engine.run(tiles)
    return 1000.0 * (time.perf_counter() - began)


def warm_up(run_ms: Callable[[], float]) -> int:
    """Run until the time is stable: two medians of three in a row within ``STABLE``; return the number of runs."""
    found = [run_ms() for _ in range(4)][1:]
    before = math.inf
    while abs(np.median(found[-3:]) - before) > STABLE * before or before == math.inf:
        if len(found) >= MOST_WARM_UPS:
            break
        before = float(np.median(found[-3:]))
        found += [run_ms() for _ in range(3)]
    return len(found) + 1


def per_megapixel(card: ModelCard, tile_ms: float) -> float | None:
    """Return the milliseconds that a megapixel of result costs in tiles of ``tile_ms``, their halo taken off.

    So networks can be compared that enlarge before and inside, whatever their halo; ``None`` where a tile is all halo.
    """
    _, _, h, w = tile_shape(card)
    factor = (card.output_shape or tile_shape(card))[2] // h
    useful = max(h - 2 * card.halo, 0) * max(w - 2 * card.halo, 0) * factor**2
    return tile_ms / useful * 1e6 if useful else None


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p90 and p99."""
    p50, p90, p99 = (float(v) for v in np.percentile(times, (50, 90, 99)))
    return p50, p90, p99


def tile_shape(card: ModelCard) -> tuple[int, int, int, int]:
    """Return (n, c, h, w) of the tiles that an engine takes."""
    assert card.input_shape is not None
    return card.input_shape

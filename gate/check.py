"""Comparing engines with the fp32 network on the same pictures through the same tiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sr_deploy.budgets import Budget
from sr_deploy.comparison import Degraded, Losses, PictureResult, compare, degrade, spending
from sr_deploy.degrade import Color, Planes, Upscale
from sr_deploy.gate.thresholds import worst
from sr_deploy.planes import read_measured
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.bench.timing import interleaved_ms
from sr_deploy.runtime.upscaling.tiling import run_picture

Key = tuple[str, int]
"""An engine's file and a scale."""


@dataclass(frozen=True)
class EngineResult(Losses):
    """One engine on all pictures at one scale, and what its budget says."""

    name: str
    precision: str
    scale: int
    latency_ms: float  # median of one tile
    budget: Budget
    note: str = ""
    weight_error: tuple[float, str] | None = None  # in steps, and the convolution; None: not readable
    threshold_ratios: Mapping[str, float] = field(default_factory=dict)  # by convolution, over what its calibration recorded
    failures: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Pair:
    """An engine, its fp32 reference with tiles of the same shape, and the scale both are measured at."""

    engine: Engine
    reference: Engine
    scale: int


def measure(pairs: Mapping[Key, Pair], paths: Sequence[Path]) -> dict[Key, tuple[PictureResult, ...]]:
    """Run all engines and references on every picture's degraded luma or RGB and compare; a reference runs once per picture.

    Raises:
        InputError: a picture is broken, or too small for the scale.
    """
    results: dict[Key, list[PictureResult]] = {key: [] for key in pairs}
    with progress("gate", len(paths) * len(pairs)) as advance:
        for path in paths:
            originals: dict[Color, Planes] = {}
            made: dict[tuple[Color, int, Upscale], Degraded] = {}
            expected: dict[tuple[int, int], Planes] = {}
            for key, pair in pairs.items():
                color, upscale = pair.engine.card.color, pair.engine.card.upscale
                if color not in originals:
                    originals[color] = read_measured(path, color)
                if (color, pair.scale, upscale) not in made:
                    made[color, pair.scale, upscale] = degrade(path.name, originals[color], pair.scale, upscale)
                degraded = made[color, pair.scale, upscale]
                if (id(pair.reference), pair.scale) not in expected:
                    expected[id(pair.reference), pair.scale] = run_picture(pair.reference, degraded.given)
                output = run_picture(pair.engine, degraded.given)
                results[key].append(compare(degraded, output, expected[id(pair.reference), pair.scale]))
                advance("")
    return {key: tuple(found) for key, found in results.items()}


def failures_of(result: EngineResult) -> tuple[str, ...]:
    """Return one clear line for each broken budget."""
    broken = (spent.text for spent in spending(result, result.budget) if spent.broken)
    found = (*broken, *weight_failure(result), *threshold_failure(result))
    return tuple(f"{result.name} x{result.scale}: {text}" for text in found)


def weight_failure(result: EngineResult) -> tuple[str, ...]:
    """Return what is wrong with a weight that is further off than rounding explains."""
    limit, found = result.budget.max_weight_error_steps, result.weight_error
    if limit is None or found is None or found[0] <= limit:
        return ()
    return (
        f"a weight of {found[1]} is {found[0]:.2f} {result.precision} steps off the fp32 network's, "
        f"the budget is {limit:g} (rounding alone gives 0.5); its weights are damaged: export it again",
    )


def threshold_failure(result: EngineResult) -> tuple[str, ...]:
    """Return what is wrong with a threshold that is not the recorded one."""
    limit, ratios = result.budget.max_threshold_ratio, result.threshold_ratios
    if limit is None or not ratios or (found := worst(ratios))[0] <= limit:
        return ()
    if not math.isfinite(found[0]):
        return (f"its card does not record the threshold of {found[1]}, so it cannot be checked; export it again",)
    text = f"the threshold of {found[1]} is off by a factor of {found[0]:.2f} from the one that its calibration recorded"
    return (f"{text}, the budget is {limit:g}; its thresholds are damaged: export it again",)


def latencies_ms(engines: Mapping[str, Engine], *, rounds: int = 5) -> dict[str, float]:
    """Return the median time of one batch of tiles by engine, in milliseconds; engines take turns so that ratios hold."""
    return {name: statistics.median(times) for name, times in interleaved_ms(engines, rounds).items()}

"""Comparing engines with the fp32 network on the same pictures through the same tiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sr_deploy.degrade import Color, Planes, network_pair, through_channels
from sr_deploy.errors import InputError
from sr_deploy.gate.budgets import Budget
from sr_deploy.gate.thresholds import typical, worst
from sr_deploy.measure import levels, luma_of, psnr
from sr_deploy.planes import read_measured
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.bench.timing import interleaved_ms
from sr_deploy.runtime.upscaling.tiling import run_whole

EQUAL_DB = 200.0  # reported for outputs that are equal to the bit, and its negative for those that are no numbers
NOT_FINITE_LEVELS = 1e6


@dataclass(frozen=True)
class PictureResult:
    """One engine on one picture."""

    picture: str
    psnr_db: float
    reference_db: float
    agreement_db: float  # of the unrounded outputs, peak 255
    shift_levels: float  # mean of engine minus reference in grey levels, of the channel furthest off

    @property
    def drop_db(self) -> float:
        """How much the engine lost."""
        return self.reference_db - self.psnr_db


@dataclass(frozen=True)
class EngineResult:
    """One engine on all pictures, and what its budget says."""

    name: str
    precision: str
    scale: int
    pictures: tuple[PictureResult, ...]
    latency_ms: float  # median of one tile
    budget: Budget
    note: str = ""
    weight_error: tuple[float, str] | None = None  # in steps, and the convolution; None: not readable
    threshold_ratios: Mapping[str, float] = field(default_factory=dict)  # by convolution, over what the pictures ask for
    failures: tuple[str, ...] = field(default=())

    @property
    def psnr_db(self) -> float:
        """Mean PSNR of the engine."""
        return statistics.fmean(p.psnr_db for p in self.pictures)

    @property
    def drop_db(self) -> float:
        """Mean drop against the reference."""
        return statistics.fmean(p.drop_db for p in self.pictures)

    @property
    def worst_drop(self) -> PictureResult:
        """The picture that lost most."""
        return max(self.pictures, key=lambda p: p.drop_db)

    @property
    def worst_agreement(self) -> PictureResult:
        """The picture whose output is furthest from the reference's."""
        return min(self.pictures, key=lambda p: p.agreement_db)

    @property
    def worst_shift(self) -> PictureResult:
        """The picture that became brightest or darkest."""
        return max(self.pictures, key=lambda p: abs(p.shift_levels) if math.isfinite(p.shift_levels) else math.inf)


@dataclass(frozen=True)
class Pair:
    """An engine, its fp32 reference with tiles of the same shape, and the scale both are measured at."""

    engine: Engine
    reference: Engine
    scale: int


def measure(pairs: Mapping[str, Pair], paths: Sequence[Path]) -> dict[str, tuple[PictureResult, ...]]:
    """Run all engines and references on every picture's degraded luma or RGB and compare; a reference runs once per picture.

    Raises:
        InputError: a picture is broken, or too small for the scale.
    """
    results: dict[str, list[PictureResult]] = {name: [] for name in pairs}
    with progress("gate", len(paths) * len(pairs)) as advance:
        for path in paths:
            originals: dict[Color, Planes] = {}
            expected: dict[tuple[int, int], Planes] = {}
            for name, pair in pairs.items():
                color = pair.engine.card.color
                original = originals[color] = originals[color] if color in originals else read_measured(path, color)
                h, w = original.shape[-2:]
                if min(h, w) <= 4 * pair.scale:
                    raise InputError(f"{path}: {w}x{h} pixels is too small to measure at x{pair.scale}; leave it out")
                given, hr = network_pair(original, pair.scale, pair.engine.card.upscale)
                key = id(pair.reference), pair.scale
                if key not in expected:
                    expected[key] = through(pair.reference, given)
                results[name].append(compare(path.name, through(pair.engine, given), expected[key], hr, pair.scale))
                advance("")
    return {name: tuple(found) for name, found in results.items()}


def through(engine: Engine, given: Planes) -> Planes:
    """Return the engine's result for a picture in grey levels, (h, w) or (c, h, w); it is in [0, 1]."""
    return through_channels(lambda planes: run_whole(engine, planes), given / np.float32(255.0))


def compare(picture: str, output: Planes, expected: Planes, hr: Planes, scale: int) -> PictureResult:
    """Return the figures of one picture: outputs in [0, 1], ``hr`` in grey levels, all (h, w) or (3, h, w)."""
    ours, theirs = (psnr(luma_of(levels(planes)), luma_of(hr), shave=scale) for planes in (output, expected))
    agreement = psnr(output * np.float32(255.0), expected * np.float32(255.0))
    shifts = np.mean((output.astype(np.float64) - expected) * 255.0, axis=(-2, -1)).ravel()
    shift = float(shifts[np.argmax(np.abs(shifts))])
    shift = shift if math.isfinite(shift) else NOT_FINITE_LEVELS
    return PictureResult(picture, _finite(ours), _finite(theirs), _finite(agreement), shift)


def failures_of(result: EngineResult) -> tuple[str, ...]:
    """Return one clear line for each broken budget."""
    name, budget = result.name, result.budget
    drop, worst, apart, shifted = result.drop_db, result.worst_drop, result.worst_agreement, result.worst_shift
    mean_reference = statistics.fmean(p.reference_db for p in result.pictures)
    advice = "add photographs to the calibration set or keep a layer out of int8 (sr-export --keep NAME)"
    lines = []
    if budget.max_drop_db is not None and not drop <= budget.max_drop_db:
        lines.append(
            f"{name}: PSNR {result.psnr_db:.3f} dB is {drop:.3f} dB below fp32 ({mean_reference:.3f} dB), "
            f"the budget is {budget.max_drop_db:g} dB; {advice}"
        )
    if budget.max_drop_worst_picture_db is not None and not worst.drop_db <= budget.max_drop_worst_picture_db:
        lines.append(
            f"{name}: {worst.picture} lost {worst.drop_db:.3f} dB ({worst.reference_db:.3f} to {worst.psnr_db:.3f} dB), "
            f"the budget for a single picture is {budget.max_drop_worst_picture_db:g} dB; {advice}"
        )
    if budget.min_agreement_db is not None and not apart.agreement_db >= budget.min_agreement_db:
        lines.append(
            f"{name}: on {apart.picture} it agrees with fp32 by {apart.agreement_db:.2f} dB, "
            f"the budget is at least {budget.min_agreement_db:g} dB; its weights or thresholds are damaged: export it again"
        )
    if budget.max_shift_levels is not None and not abs(shifted.shift_levels) <= budget.max_shift_levels:
        lines.append(
            f"{name}: {shifted.picture} is {shifted.shift_levels:+.3f} grey levels off fp32 on average, "
            f"the budget is {budget.max_shift_levels:g}; the engine adds a constant: export it again"
        )
    return (*lines, *weight_failure(result), *threshold_failures(result))


def weight_failure(result: EngineResult) -> tuple[str, ...]:
    """Return the line for a weight that is further off than rounding explains."""
    limit, found = result.budget.max_weight_error_steps, result.weight_error
    if limit is None or found is None or found[0] <= limit:
        return ()
    return (
        f"{result.name}: a weight of {found[1]} is {found[0]:.2f} {result.precision} steps off the fp32 network's, "
        f"the budget is {limit:g} (rounding alone gives 0.5); its weights are damaged: export it again",
    )


def threshold_failures(result: EngineResult) -> tuple[str, ...]:
    """Return a line for thresholds that are not what these pictures ask for: all together, and a single one."""
    budget, ratios, lines = result.budget, result.threshold_ratios, []
    if not ratios:
        return ()
    advice = "calibrate again on photographs like those it will see (sr-export --calib DIR)"
    together, (single, name) = typical(ratios), worst(ratios)
    if budget.max_threshold_ratio is not None and together > budget.max_threshold_ratio:
        lines.append(
            f"{result.name}: its thresholds are off by a factor of {together:.2f} from what these pictures ask for, "
            f"the budget is {budget.max_threshold_ratio:g}; {advice}"
        )
    if budget.max_layer_threshold_ratio is not None and single > budget.max_layer_threshold_ratio:
        lines.append(
            f"{result.name}: the threshold of {name} is off by a factor of {single:.2f} from what these pictures ask for, "
            f"the budget is {budget.max_layer_threshold_ratio:g}; {advice}"
        )
    return tuple(lines)


def latencies_ms(engines: Mapping[str, Engine], *, rounds: int = 5) -> dict[str, float]:
    """Return the median time of one batch of tiles by engine, in milliseconds; engines take turns so that ratios hold."""
    return {name: statistics.median(times) for name, times in interleaved_ms(engines, rounds).items()}


def _finite(value: float) -> float:
    return -EQUAL_DB if math.isnan(value) else max(-EQUAL_DB, min(value, EQUAL_DB))

"""The accuracy guard: which convolutions compute in int8, decided by measuring.

What int8 costs is concentrated in a few layers that depend on the network and the scale, so no fixed list is right. The guard
begins with everything in int8 that is asked for, measures the drop of the mean PSNR on photographs that no threshold was
made from, and while it is over the budget at any scale puts back to float the convolution with the most dB per
multiplication at such a scale (each alone in int8: ``sensitivity``), measuring the whole graph again each time. Then it tries
each of them in int8 once more, the latest first: a layer may have become affordable through a later one.

The same search goes on where what it chose breaks another limit on whole pictures (``verification``): then a drop is not in dB
but the part of the budget that is used, and 1 is all of it.

A convolution that is kept in float also *reads* float activations: they, not the weights, are what int8 loses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from sr_deploy.export.graphs.quantize import quantize
from sr_deploy.export.graphs.reading import OUTPUT_KEY

WORTH = 0.05  # of the budget: what loses less alone is kept in float only when nothing else is left

Drops = dict[int, float]
"""By how many dB the mean PSNR is below fp32's, by scale."""


@dataclass(frozen=True)
class Choice:
    """What stays out of int8: ``kept`` compute in floating point, of them ``given_back`` also read float activations."""

    kept: frozenset[str]
    given_back: tuple[str, ...] = ()

    @property
    def floating(self) -> frozenset[str]:
        """The convolutions that compute in floating point."""
        return self.kept | frozenset(self.given_back)

    def thresholds(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return those of the thresholds that this choice uses."""
        return {name: t for name, t in found.items() if name.removesuffix(OUTPUT_KEY) not in self.given_back}

    def graph(
        self, model: onnx.ModelProto, thresholds: Mapping[str, float], shifts: Mapping[str, Sequence[float]]
    ) -> onnx.ModelProto:
        """Return the int8 graph of this choice."""
        return quantize(model, self.thresholds(thresholds), keep=self.floating, shifts=shifts)


@dataclass(frozen=True)
class Step:
    """One measurement of the guard."""

    action: str  # "start", "give back" or "take back"
    layer: str | None
    drop_db: Drops
    int8_share: float  # of the multiplications, 0 to 1


@dataclass(frozen=True)
class Verified:
    """What whole pictures say of a choice, by scale, and the limits that it keeps there."""

    budgets: dict[int, dict[str, float]]
    figures: dict[int, dict[str, float]]


@dataclass(frozen=True)
class Decision:
    """What the guard chose, and how."""

    choice: Choice
    drop_db: Drops
    max_drop_db: float
    steps: tuple[Step, ...]
    verified: Verified | None = None  # None: not yet

    @property
    def fits(self) -> bool:
        """Whether the drop is within the budget at every scale."""
        return within(self.drop_db, self.max_drop_db)


@dataclass
class Search:
    """What the guard needs to know: how to measure a choice, what layers cost, where a step is reported."""

    measure: Callable[[Choice], Drops]
    costs: Callable[[], Mapping[str, Drops]]  # of each convolution alone that int8 reaches; asked for once, if at all
    macs: Mapping[str, int]
    max_drop_db: float
    report: Callable[[Step], None] = lambda step: None
    steps: list[Step] = field(default_factory=list)

    def run(self, start: Choice) -> Decision:
        """Return the choice nearest to ``start`` whose drop is within the budget, or the best that was seen."""
        choice, drops = start, self._try("start", None, start)
        best = choice, drops
        costs = {} if within(drops, self.max_drop_db) else dict(self.costs())
        while not within(drops, self.max_drop_db):
            more = {name: Choice(choice.kept, (*choice.given_back, name)) for name in costs if name not in choice.given_back}
            # A graph without int8 is no answer.
            possible = [name for name, one in more.items() if len(one.floating) < len(self.macs)]
            if not possible:
                break
            over = [scale for scale, drop in drops.items() if not drop <= self.max_drop_db]
            name = max(possible, key=lambda name: self._worth(costs[name], name, over))
            choice = more[name]
            drops = self._try("give back", name, choice)
            best = (choice, drops) if worst(drops) < worst(best[1]) else best
        if not within(drops, self.max_drop_db):
            return Decision(*best, self.max_drop_db, tuple(self.steps))
        for name in reversed(choice.given_back[len(start.given_back) : -1]):  # without the last, it did not fit
            fewer = Choice(choice.kept, tuple(one for one in choice.given_back if one != name))
            found = self._try("take back", name, fewer)
            if within(found, self.max_drop_db):
                choice, drops = fewer, found
        return Decision(choice, drops, self.max_drop_db, tuple(self.steps))

    def _worth(self, alone: Drops, name: str, scales: Sequence[int]) -> tuple[bool, float]:
        """Return what orders convolutions: those that matter first, then by dB per multiplication, at the worst of ``scales``."""
        drop = max(alone[scale] for scale in scales)
        return drop >= WORTH * self.max_drop_db, drop / self.macs[name]

    def _try(self, action: str, layer: str | None, choice: Choice) -> Drops:
        drops = self.measure(choice)
        step = Step(action, layer, drops, int8_share(choice, self.macs))
        self.steps.append(step)
        self.report(step)
        return drops


def within(drops: Mapping[int, float], max_drop_db: float) -> bool:
    """Return whether the drop is within the budget at every scale; a drop that is no number is not."""
    return all(drop <= max_drop_db for drop in drops.values())


def worst(drops: Mapping[int, float]) -> float:
    """Return the largest drop over the scales; infinite where one is no number."""
    return max(float("inf") if math.isnan(drop) else drop for drop in drops.values())


def int8_share(choice: Choice, macs: Mapping[str, int]) -> float:
    """Return the part of the multiplications that a choice computes in int8, 0 to 1."""
    return sum(count for name, count in macs.items() if name not in choice.floating) / sum(macs.values())

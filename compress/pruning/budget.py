"""How many channels each group keeps so that the network fits a budget of multiplications at the least predicted error.

The predicted error is the sum of what every group costs when it is pruned alone (``compress/pruning/sensitivity.py``). From the
dense network on, the next channels go where they cost the least error for each multiplication saved, counted with what the other
groups have left; what the last step took too much is restored where it helps most. A greedy choice, as in Yang et al.,
"NetAdapt", ECCV 2018, without training in between.
"""

from __future__ import annotations

from collections.abc import Mapping

from sr_deploy.compress.pruning.allocation import Cost, Kept
from sr_deploy.compress.pruning.sensitivity import Curve
from sr_deploy.errors import InputError
from sr_deploy.train.networks.groups import ChannelGroup

Curves = Mapping[ChannelGroup, Curve]
FINEST = 64  # steps of a layer


def channels_for(cost: Cost, channels: Kept, curves: Curves, *, share: float, multiple: int = 1) -> dict[ChannelGroup, int]:
    """Return what every group keeps so that at most ``share`` of the dense network's multiplications remain.

    No group keeps fewer channels than were measured; with ``multiple`` it keeps a multiple of it, or all.

    Raises:
        InputError: so few cannot be reached.
    """
    dense = cost.macs(channels)
    levels = {group: levels_of(n, curves[group].least, multiple) for group, n in channels.items()}
    kept = dict(channels)
    while cost.macs(kept) > share * dense:
        lower = {group: max((n for n in levels[group] if n < kept[group]), default=None) for group in kept}
        steps = {group: {**kept, group: n} for group, n in lower.items() if n is not None}
        if not steps:
            reached = cost.macs(kept) / dense
            raise InputError(f"--target-macs {share}: no less than {reached:.4f} can be reached; give at least that")
        group = min(steps, key=lambda group: _price(cost, curves[group], kept, steps[group], group))
        kept = steps[group]
    return _fill(cost, kept, curves, levels, share * dense)


def levels_of(channels: int, least: int, multiple: int) -> tuple[int, ...]:
    """Return the numbers of channels that a group may keep, ascending: multiples, at least ``least``, and all of them.

    Wide layers go in steps of a 64th of them, so that a large network takes no longer.
    """
    stride = multiple * max(channels // (FINEST * multiple), 1)
    return (*range(-(-least // multiple) * multiple, channels, stride), channels)


def _price(cost: Cost, curve: Curve, more: Kept, less: Kept, group: ChannelGroup) -> float:
    """Return the error for each multiplication saved."""
    return (curve.error(less[group]) - curve.error(more[group])) / (cost.macs(more) - cost.macs(less))


def _fill(
    cost: Cost, kept: Kept, curves: Curves, levels: Mapping[ChannelGroup, tuple[int, ...]], most: float
) -> dict[ChannelGroup, int]:
    """Return ``kept`` with channels restored as long as they fit."""
    found = dict(kept)
    while True:
        higher = {group: min((n for n in levels[group] if n > found[group]), default=None) for group in found}
        steps = {group: {**found, group: n} for group, n in higher.items() if n is not None}
        fitting = [group for group, step in steps.items() if cost.macs(step) <= most]
        if not fitting:
            return found
        found = steps[max(fitting, key=lambda group: _price(cost, curves[group], steps[group], found, group))]

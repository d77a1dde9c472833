"""What is to be removed in all: a ``config_list`` as it was given, or how many channels every group keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sr_deploy.card import Shape
from sr_deploy.compress.pruning.allocation import (
    Cost,
    Kept,
    channels_of,
    cost_of,
    part_of_the_way,
    round_up,
    uniform,
)
from sr_deploy.compress.pruning.budget import Curves, channels_for
from sr_deploy.compress.pruning.masks import ConfigList
from sr_deploy.compress.pruning.measured import Measured
from sr_deploy.compress.pruning.sensitivity import curves_of
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network

SHOWN = 0.5  # sparsity at which a layer's sensitivity is shown


@dataclass(frozen=True)
class Wanted:
    """What the options say of how much is removed; ``None``: nothing."""

    sparsity: float | None = None
    target_macs: float | None = None  # share of the dense network's multiplications that is left
    round_to: int | None = None
    rounds: int = 1

    @property
    def uniform_sparsity(self) -> float:
        """The sparsity of every convolution."""
        return 0.5 if self.sparsity is None else self.sparsity


@dataclass(frozen=True)
class Plan:
    """What is removed in ``rounds`` rounds, what it costs, and what is said about it."""

    config_list: ConfigList | None = None  # as it was given; then there is one round, and no ``kept``
    channels: Kept = field(default_factory=dict)  # of the dense network
    kept: Kept = field(default_factory=dict)  # in the end
    rounds: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)  # for the card
    layers: Sequence[Sequence[str]] = ()  # a table, where the widths do not follow from one sparsity
    share: float | None = None  # of the dense network's multiplications that is left

    def of_round(self, number: int) -> Kept:
        """Return what every group keeps after round ``number``, counted from 1."""
        return part_of_the_way(self.channels, self.kept, step=number, steps=self.rounds)


def plan_of(wanted: Wanted, network: Network, measured: Measured, shape: Shape) -> Plan:
    """Return what is removed of ``network``, after measuring its layers where a budget is wanted; MACs are counted at ``shape``.

    Raises:
        InputError: the budget cannot be reached.
    """
    cost, channels = cost_of(network, shape), channels_of(network)
    if wanted.target_macs is None:
        return uniform_plan(wanted, cost, channels)
    return budget_plan(wanted, cost, channels, curves_of(network, measured.batches(network), measured.scores(network)))


def uniform_plan(wanted: Wanted, cost: Cost, channels: Kept) -> Plan:
    """Return the plan of one sparsity for every convolution, rounded up where wanted."""
    kept = asked = uniform(channels, wanted.uniform_sparsity)
    facts = {"prune.sparsity": f"{wanted.uniform_sparsity:g}"}
    if wanted.round_to is None:
        return Plan(None, channels, kept, wanted.rounds, facts)
    kept = round_up(asked, channels, wanted.round_to)
    dense = cost.macs(channels)
    rows = [["channels of", "dense", "asked", "kept"]]
    rows += [[label_of(group), str(n), str(asked[group]), str(kept[group])] for group, n in channels.items()]
    rows.append(["MACs left", "100.0 %", _percent(cost.macs(asked) / dense), _percent(cost.macs(kept) / dense)])
    return Plan(
        None,
        channels,
        kept,
        wanted.rounds,
        {**facts, "prune.round_to": str(wanted.round_to)},
        rows,
        cost.macs(kept) / dense,
    )


def budget_plan(wanted: Wanted, cost: Cost, channels: Kept, curves: Curves) -> Plan:
    """Return the plan of least predicted error within the budget.

    Raises:
        InputError: the budget cannot be reached.
    """
    assert wanted.target_macs is not None
    kept = channels_for(cost, channels, curves, share=wanted.target_macs, multiple=wanted.round_to or 1)
    share = cost.macs(kept) / cost.macs(channels)
    rows = [["channels of", "dense", "kept", "sparsity", f"agreement dB, {SHOWN:.0%} removed only here"]]
    for group, n in channels.items():
        alone = curves[group].psnr_db(SHOWN)
        rows.append([label_of(group), str(n), str(kept[group]), f"{1.0 - kept[group] / n:.3f}", f"{alone:.1f}"])
    rows.append(["MACs left", "100.0 %", _percent(share), "", ""])
    facts = {"prune.target_macs": f"{wanted.target_macs:g}"}
    if wanted.round_to is not None:
        facts["prune.round_to"] = str(wanted.round_to)
    return Plan(None, channels, kept, wanted.rounds, facts, rows, share)


def label_of(group: ChannelGroup) -> str:
    """Return how a group is called in a table: by what makes its channels."""
    first, *others = group.producers
    return f"{first} and {len(others)} more" if others else first


def _percent(share: float) -> str:
    return f"{100.0 * share:.2f} %"

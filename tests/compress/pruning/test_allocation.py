"""How many channels are kept, what that costs, and the masks of it."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.allocation import (
    channels_of,
    cost_of,
    exact_ratio,
    part_of_the_way,
    round_up,
)
from sr_deploy.compress.pruning.masks import filter_masks, native_masks, nni_installed
from sr_deploy.compress.pruning.removal import without_filters
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, macs

FAMILIES: dict[str, dict[str, float]] = {
    "vdsr": {"features": 24},
    "edsr": {"blocks": 2, "features": 24, "scale": 4},
    "srresnet": {"blocks": 2, "features": 24, "scale": 4},
    "msrresnet": {"blocks": 2, "features": 24, "scale": 3},
    "mdsr": {"blocks": 2, "features": 24},
}
SHAPE = (1, 1, 10, 12)


def random_network(arch: str) -> Network:
    torch.manual_seed(0)
    network = build(arch, config=FAMILIES[arch]).folded()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def random_choice(network: Network, seed: int) -> dict[ChannelGroup, int]:
    rng = random.Random(seed)
    return {group: rng.randint(1, n) for group, n in channels_of(network).items()}


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_masks_keep_exactly_so_many_and_the_cost_is_that_of_the_smaller_network(arch: str, seed: int) -> None:
    network = random_network(arch)
    kept = random_choice(network, seed)
    small = without_filters(network, native_masks(network, kept))
    assert channels_of(small) == kept
    cost = cost_of(network, SHAPE)
    assert cost.macs(kept) == sum(macs(one, SHAPE) for one in small.at_each_scale())
    assert cost.macs(channels_of(network)) == sum(macs(one, SHAPE) for one in network.at_each_scale())


@pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")
@pytest.mark.parametrize("arch", FAMILIES)
def test_masks_are_those_of_nni(arch: str) -> None:
    network = random_network(arch)
    for kept in (random_choice(network, 2), channels_of(network)):
        theirs, ours = (filter_masks(network, kept, backend=backend) for backend in ("nni", "native"))
        assert set(theirs) == set(ours) and all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_a_ratio_removes_exactly_as_many() -> None:
    for channels in range(1, 300):
        for removed in range(channels):
            ratio = exact_ratio(channels, removed)
            assert int(channels * ratio) == removed and 0.0 <= ratio < 1.0
    assert exact_ratio(64, 32) == 0.5
    assert int(49 * (1 / 49)) == 0 and exact_ratio(49, 1) > 1 / 49  # what the search is for


def test_counts_are_rounded_up_and_never_beyond_the_layer() -> None:
    sizes = {64: 33, 65: 32, 40: 36, 8: 3, 17: 1}
    groups = dict(zip(channels_of(build("vdsr", (1,) * 5 + (1,))), sizes.items(), strict=True))
    channels, kept = ({group: pair[place] for group, pair in groups.items()} for place in (0, 1))
    assert list(round_up(kept, channels, 16).values()) == [48, 32, 40, 8, 16]


def test_rounds_end_at_the_counts_of_one_round() -> None:
    network = random_network("edsr")
    channels, kept = channels_of(network), random_choice(network, 5)
    for rounds in (1, 2, 3, 7):
        found = [part_of_the_way(channels, kept, step=step, steps=rounds) for step in range(1, rounds + 1)]
        assert found[-1] == kept
        for earlier, later in zip([channels, *found[:-1]], found, strict=True):
            assert all(later[group] <= earlier[group] for group in channels)
            assert all(earlier[group] - later[group] <= 24 // rounds + 1 for group in channels)

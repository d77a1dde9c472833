"""What each channel group keeps at a budget of multiplications, by the error that pruning it alone makes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.allocation import channels_of, cost_of
from sr_deploy.compress.pruning.budget import channels_for, levels_of
from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import without_filters
from sr_deploy.compress.pruning.sensitivity import Curve, batches_of, curves_of
from sr_deploy.errors import InputError
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, card_of, convolutions, macs

FAMILIES: dict[str, dict[str, float]] = {
    "vdsr": {"features": 16},
    "edsr": {"blocks": 3, "features": 16, "scale": 2},
    "srresnet": {"blocks": 2, "features": 16, "scale": 4},
    "msrresnet": {"blocks": 2, "features": 16, "scale": 2},
    "mdsr": {"blocks": 2, "features": 16},
}
SHAPE = (1, 1, 16, 16)


def random_network(arch: str, **config: float) -> Network:
    torch.manual_seed(0)
    network = build(arch, config={**FAMILIES[arch], **config}).folded()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def batches_for(arch: str) -> list[MicroBatch]:
    torch.manual_seed(1)
    return [MicroBatch(torch.rand(2, 1, 12, 12), torch.empty(0), scale) for scale in ((2, 3, 4) if arch == "mdsr" else (None,))]


def named(network: Network, name: str) -> ChannelGroup:
    return next(group for group in channels_of(network) if name in group.producers)


@pytest.mark.parametrize("arch", FAMILIES)
@pytest.mark.parametrize("multiple", [1, 4])
def test_the_budget_is_never_exceeded_and_nearly_used(arch: str, multiple: int) -> None:
    network = random_network(arch)
    channels, cost, curves = channels_of(network), cost_of(network, SHAPE), curves_of(network, batches_for(arch))
    dense = sum(macs(one, SHAPE) for one in network.at_each_scale())
    for share in (0.2, 0.25, 0.5, 0.9):
        kept = channels_for(cost, channels, curves, share=share, multiple=multiple)
        assert all(n % multiple == 0 or n == channels[group] for group, n in kept.items())
        small = without_filters(network, native_masks(network, kept))
        reached = sum(macs(one, SHAPE) for one in small.at_each_scale()) / dense
        assert reached <= share
        # Nothing more fits: the next step of any group would exceed the budget.
        for group, n in kept.items():
            if n < channels[group]:
                assert cost.macs({**kept, group: min(n + multiple, channels[group])}) > share * dense


def test_a_useless_layer_goes_first() -> None:
    network = random_network("edsr")
    with torch.no_grad():  # what the middle block adds is nothing, whatever its inner channels are
        conv = convolutions(network)["body.1.conv2"]
        conv.weight.zero_()
        assert conv.bias is not None
        conv.bias.zero_()
    channels, cost, curves = channels_of(network), cost_of(network, SHAPE), curves_of(network, batches_for("edsr"))
    useless = named(network, "body.1.conv1")
    assert curves[useless].error(curves[useless].least) == 0.0 and curves[useless].psnr_db(0.5) == 100.0
    kept = channels_for(cost, channels, curves, share=0.8)
    assert kept[useless] <= curves[useless].least + 1  # one may be given back where nothing else fits
    assert all(channels[group] - n < channels[useless] - kept[useless] for group, n in kept.items() if group != useless)
    usual = curves_of(random_network("edsr"), batches_for("edsr"))  # a block that does something is not emptied first
    assert channels_for(cost, channels, usual, share=0.8)[useless] > kept[useless]


def test_the_error_is_that_against_the_dense_network() -> None:
    network = random_network("vdsr")
    group, batches = named(network, "conv3"), batches_for("vdsr")
    curve = curves_of(network, batches)[group]
    kept = {**channels_of(network), group: 8}
    small = without_filters(network, native_masks(network, kept))
    with torch.no_grad():
        expected = float((small(batches[0].degraded) - network(batches[0].degraded)).square().mean())
    assert dict(curve.points)[8] == pytest.approx(expected, rel=1e-4)
    assert curve.psnr_db(0.5) == pytest.approx(-10.0 * math.log10(expected), rel=1e-4)


def test_a_curve_is_read_on_its_convex_hull() -> None:
    curve = Curve(((2, 8.0), (4, 7.0), (8, 1.0), (10, 0.0)))
    assert [curve.error(n) for n in (2, 8, 10)] == [8.0, 1.0, 0.0]
    assert curve.error(4) == pytest.approx(8.0 - 7.0 / 3.0)  # the dent is cut: below the measured 7
    assert curve.error(9) == 0.5
    assert curve.error(1) == math.inf
    prices = [round(curve.error(n) - curve.error(n + 1), 9) for n in range(2, 10)]
    assert prices == sorted(prices, reverse=True)


def test_levels_are_multiples_and_the_whole_layer() -> None:
    assert levels_of(40, 4, 16) == (16, 32, 40)
    assert levels_of(12, 2, 16) == (12,)
    assert levels_of(5, 2, 1) == (2, 3, 4, 5)
    assert len(levels_of(4096, 410, 1)) <= 65


def test_a_budget_that_cannot_be_reached_is_refused() -> None:
    network = random_network("vdsr")
    channels, cost, curves = channels_of(network), cost_of(network, SHAPE), curves_of(network, batches_for("vdsr"))
    least = cost.macs({group: curves[group].least for group in channels}) / cost.macs(channels)
    with pytest.raises(InputError, match=f"--target-macs 0.001: no less than {least:.4f} can be reached; give at least that"):
        channels_for(cost, channels, curves, share=0.001)


@pytest.mark.parametrize(("arch", "scale"), [("vdsr", None), ("edsr", None), ("mdsr", 3)])
def test_parts_of_pictures_are_as_the_network_reads_them(arch: str, scale: int | None) -> None:
    network = random_network(arch)
    card = card_of(network, scales=(2, 3, 4) if arch != "edsr" else (2,), default_scale=2)
    picture = np.random.default_rng(0).uniform(0.0, 255.0, (100, 130)).astype(np.float32)
    found = batches_of([picture] * 9, network, card)
    assert len(found) == 5 and len(batches_of([picture], network, card)) == len(card.scales)
    batch = found[1] if arch != "edsr" else found[0]
    with torch.no_grad():
        assert batch.through(network).shape == batch.original.shape == (1, 1, 96, 96)
    assert batch.scale == scale
    assert float(batch.original.max()) <= 1.0

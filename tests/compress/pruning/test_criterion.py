"""Which filters matter, by the error instead of by their norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.criterion import taylor_scores
from sr_deploy.compress.pruning.masks import filter_masks, l1_norms, native_masks
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, convolutions
from tests.helpers.networks import kept_at


def random_network(arch: str = "vdsr", **config: float) -> Network:
    torch.manual_seed(0)
    network = build(arch, (8, 8, 1) if arch == "vdsr" else None, config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def batch(scale: int = 1, *, told: bool = False) -> MicroBatch:
    torch.manual_seed(1)
    return MicroBatch(torch.rand(2, 1, 9, 9), torch.rand(2, 1, 9 * scale, 9 * scale), scale if told else None)


def test_a_filter_that_nothing_reads_goes_before_a_weak_one() -> None:
    network = random_network()
    first, second = (convolutions(network)[name] for name in ("conv1", "conv2"))
    with torch.no_grad():
        first.weight[3] *= 100.0  # strong, and of no use: nothing reads it
        second.weight[:, 3] = 0.0
    scores = taylor_scores(network, [batch()])
    assert float(scores["conv1"][3]) == 0.0 and int((scores["conv1"] > 0.0).sum()) >= 4
    chosen = kept_at(network, 0.5)
    assert not bool(filter_masks(network, chosen, backend="native", scores=scores)["conv1"][3])
    assert bool(native_masks(network, chosen)["conv1"][3])


def test_the_score_is_the_change_of_the_error_to_first_order() -> None:
    network, step = random_network(), 1e-3
    scores = taylor_scores(network, [batch()])["conv2"]
    with torch.no_grad():
        before = (network(batch().degraded) - batch().original).square().mean().double()
        for number in range(8):
            weight = convolutions(network)["conv2"].weight
            kept = weight[number].clone()
            weight[number] *= 1.0 - step
            change = ((network(batch().degraded) - batch().original).square().mean().double() - before) / step
            weight[number] = kept
            # A difference of float32 errors over a step of a thousandth.
            assert float(change) ** 2 == pytest.approx(float(scores[number]), rel=0.1, abs=1e-6)


def test_scores_are_means_over_batches_and_the_network_is_not_changed() -> None:
    network = random_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one, two = taylor_scores(network, [batch()]), taylor_scores(network, [batch(), batch()])
    assert all(torch.allclose(one[name], two[name]) for name in one)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_scale_says_nothing_of_the_branches_of_others() -> None:
    network = random_network("mdsr", blocks=1, features=8)
    scores = taylor_scores(network, [batch(2, told=True)])
    assert float(scores["up.x3.0"].max()) == 0.0 < float(scores["up.x2.0"].min())


def test_norms_as_scores_make_the_usual_masks() -> None:
    network = random_network("mdsr", blocks=1, features=8)
    chosen = kept_at(network, 0.5)
    norms = {name: l1_norms(conv.weight) for name, conv in convolutions(network).items()}
    ours, usual = native_masks(network, chosen, norms), native_masks(network, chosen)
    assert all(torch.equal(ours[name], usual[name]) for name in usual)

"""Pruning networks with residual streams and sub-pixel convolutions: one mask a stream, whole groups before a shuffle."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.masks import filter_masks, native_masks, nni_installed
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import CheckError, InputError
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, convolutions, weight_count, widths_of
from tests.helpers.networks import kept_at

SCALES = (2, 3, 4)


def random_edsr(scale: int, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build("edsr", config={"scale": scale, "blocks": 3, "features": 16})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


@pytest.mark.parametrize("scale", SCALES)
def test_one_mask_for_a_stream_and_whole_groups_before_a_shuffle(scale: int) -> None:
    network = random_edsr(scale)
    masks = native_masks(network, kept_at(network, 0.5))
    assert set(masks) == set(convolutions(network)) - {"tail"}
    stream = [name for name in masks if name in ("head", "body_end") or name.endswith("conv2")]
    assert len(stream) == 5 and all(torch.equal(masks[name], masks["head"]) for name in stream)
    for name in (n for n in masks if n.startswith("up.")):
        block = {2: 4, 3: 9, 4: 4}[scale]
        rows = masks[name].reshape(-1, block)
        assert bool((rows == rows[:, :1]).all()) and int(rows[:, 0].sum()) == 8
    assert all(int(mask.sum()) * 2 == len(mask) for mask in masks.values())


def test_the_filters_that_go_have_the_least_mean_norm_of_the_stream() -> None:
    network = random_edsr(2)
    masks = native_masks(network, kept_at(network, 0.25))
    names = [name for name in masks if name in ("head", "body_end") or name.endswith("conv2")]
    norms = torch.stack([convolutions(network)[name].weight.detach().abs().sum(dim=(1, 2, 3)) for name in names]).mean(dim=0)
    assert sorted(norms.argsort()[:4].tolist()) == (~masks["head"]).nonzero().flatten().tolist()


@pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.7])
def test_masks_are_those_of_nni(scale: int, sparsity: float) -> None:
    network = random_edsr(scale, seed=scale)
    chosen = kept_at(network, sparsity)
    theirs, ours = (filter_masks(network, chosen, backend=backend) for backend in ("nni", "native"))
    assert set(theirs) == set(ours) and all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("sparsity", [0.25, 0.5])
def test_the_smaller_network_computes_what_the_masked_one_computes(scale: int, sparsity: float) -> None:
    network = random_edsr(scale)
    masks = native_masks(network, kept_at(network, sparsity))
    small = without_filters(network, masks)
    assert weight_count(small) < weight_count(network) and widths_of(small)[-1] == 1
    assert check_equal(mask_filters(network, masks), small, torch.rand(1, 1, 19, 23)) <= 1e-5


def test_a_bias_that_was_forgotten_would_be_seen() -> None:
    network = random_edsr(2)
    masks = native_masks(network, kept_at(network, 0.5))
    wrong = mask_filters(network, masks)
    with torch.no_grad():
        bias = convolutions(wrong)["body.0.conv1"].bias
        assert bias is not None
        bias.copy_(convolutions(network)["body.0.conv1"].bias.abs() + 0.1)  # type: ignore[union-attr]
    small = without_filters(network, masks)
    with pytest.raises(CheckError, match="differs by"):
        check_equal(wrong, small, torch.rand(1, 1, 19, 23))


def test_a_stream_with_two_masks_is_refused() -> None:
    network = random_edsr(2)
    masks = {"head": torch.tensor([True, False] * 8)}
    with pytest.raises(InputError, match="share their channels and need one mask"):
        without_filters(network, masks)


def test_parts_of_a_group_before_a_shuffle_are_refused() -> None:
    network = random_edsr(2)
    masks = {"up.0": torch.tensor([True, False] * 32)}
    with pytest.raises(InputError, match=r"4 filters make one channel behind the shuffle .* give granularity \[4"):
        without_filters(network, masks)


def test_the_network_is_not_changed() -> None:
    network = random_edsr(3)
    before = copy.deepcopy(network.state_dict())
    without_filters(network, filter_masks(network, kept_at(network, 0.5)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

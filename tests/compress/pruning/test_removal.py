from __future__ import annotations

import random

import pytest
import torch

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import TOLERANCE, check_equal, mask_filters, without_filters
from sr_deploy.errors import CheckError, InputError
from sr_deploy.train.networks.registry import convolutions, weight_count, widths_of
from sr_deploy.train.networks.vdsr import VDSR
from tests.helpers.networks import kept_at, vdsr


def test_half_of_the_papers_network() -> None:
    dense = vdsr()
    small = without_filters(dense, native_masks(dense, kept_at(dense, 0.5)))
    assert (weight_count(dense), weight_count(small)) == (664_704, 166_464)
    assert widths_of(small) == (32,) * 19 + (1,)


@pytest.mark.parametrize("seed", range(5))
def test_smaller_network_computes_what_the_masked_one_does(seed: int) -> None:
    rng = random.Random(seed)
    dense = vdsr(*(rng.randint(2, 16) for _ in range(rng.randint(1, 5))), 1, seed=seed)
    masks = {}
    for name, conv in list(convolutions(dense).items())[:-1]:
        mask = torch.tensor([rng.random() < 0.6 for _ in range(conv.out_channels)])
        mask[rng.randrange(len(mask))] = True
        masks[name] = mask
    small = without_filters(dense, masks)
    x = torch.rand(2, 1, 16, 16)
    assert torch.allclose(mask_filters(dense, masks)(x), small(x), atol=1e-5)  # the order of float32 additions
    assert widths_of(small) == (*(int(mask.sum()) for mask in masks.values()), 1)


def test_masked_zeroes_the_filters_of_a_copy() -> None:
    dense = vdsr(3, 2, 1)
    before = dense.state_dict()["conv1.weight"].clone()
    weight = mask_filters(dense, {"conv1": torch.tensor([True, False, True])}).state_dict()["conv1.weight"]
    assert torch.equal(weight[[0, 2]], before[[0, 2]])
    assert not weight[1].any()
    assert torch.equal(dense.state_dict()["conv1.weight"], before)


def test_surviving_weights_are_copied() -> None:
    dense = vdsr(3, 2, 1)
    small = without_filters(dense, {"conv1": torch.tensor([True, False, True])})
    assert torch.equal(small.state_dict()["conv2.weight"], dense.state_dict()["conv2.weight"][:, [0, 2]])
    assert torch.equal(small.state_dict()["conv3.weight"], dense.state_dict()["conv3.weight"])


def test_nothing_masked_changes_nothing() -> None:
    dense, x = vdsr(3, 2, 1), torch.rand(1, 1, 8, 8)
    assert torch.equal(without_filters(dense, {})(x), dense(x))


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_kept(training: bool) -> None:
    dense = vdsr(3, 2, 1).train(training)
    assert without_filters(dense, {}).training is training


def test_check_returns_the_difference() -> None:
    dense = vdsr(4, 1)
    assert check_equal(dense, dense, torch.rand(1, 1, 8, 8)) == 0.0


def test_check_can_fail() -> None:
    dense, other = vdsr(4, 1), vdsr(4, 1)
    with torch.no_grad():
        convolutions(other)["conv2"].weight[0, 0, 1, 1] += 1e-3
    with pytest.raises(
        CheckError, match=r"the smaller network's output differs by \d\.\d\de-0\d, the limit is 1e-05; report this"
    ):
        check_equal(dense, other, torch.rand(1, 1, 8, 8) + 1.0)
    assert TOLERANCE == 1e-5


def test_check_notices_what_is_no_number() -> None:
    dense, other = vdsr(4, 1), vdsr(4, 1)
    with torch.no_grad():
        convolutions(other)["conv2"].weight.fill_(float("nan"))
    with pytest.raises(CheckError, match="differs by nan"):
        check_equal(dense, other, torch.rand(1, 1, 8, 8))


def test_check_notices_the_wrong_filter() -> None:
    dense = vdsr(4, 4, 1)
    right, wrong = ({"conv1": torch.tensor(mask)} for mask in ([True, False, True, True], [True, True, False, True]))
    with pytest.raises(CheckError, match="report this"):
        check_equal(mask_filters(dense, right), without_filters(dense, wrong), torch.rand(1, 1, 16, 16))


def test_the_output_convolution_cannot_be_removed() -> None:
    dense = vdsr(4, 1)
    with pytest.raises(InputError, match="conv2: its channels cannot be removed; exclude it from the config_list"):
        without_filters(dense, {"conv2": torch.tensor([False])})


def test_shared_channels_need_one_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = vdsr(4, 4, 4, 1)
    assert isinstance(dense, VDSR)
    first, second, third = dense.channel_groups()
    shared = type(first)((*first.producers, *second.producers), (*first.consumers, *second.consumers))
    monkeypatch.setattr(VDSR, "channel_groups", lambda self: (shared, third))  # VDSR itself shares none
    masks = {"conv1": torch.tensor([True, True, False, False]), "conv2": torch.tensor([True, False, True, False])}
    with pytest.raises(InputError, match="conv1, conv2: share their channels and need one mask; name them all in one entry"):
        without_filters(dense, masks)
    with pytest.raises(InputError, match="need one mask"):
        without_filters(dense, {"conv1": masks["conv1"]})

from __future__ import annotations

import pytest
import torch
from torch import nn

from sr_deploy.errors import InputError
from sr_deploy.train.losses.expression import grey_levels, half_sum_of_squares
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.registry import (
    arch_of,
    build,
    build_like,
    card_of,
    convolutions,
    macs,
    weight_count,
    widths_of,
)
from sr_deploy.train.networks.vdsr import VDSR, VDSRConfig


def tiny() -> VDSR:
    torch.manual_seed(0)
    return VDSR(VDSRConfig((8, 8, 1)))


def test_the_papers_network_has_664704_weights() -> None:
    assert weight_count(build("vdsr")) == 664_704


def test_half_the_filters_leave_166464_weights() -> None:
    assert weight_count(build("vdsr", (32,) * 19 + (1,))) == 166_464


def test_the_papers_network_takes_43_56_gmac() -> None:
    network = build("vdsr")
    assert macs(network, (1, 1, 256, 256)) == 664_704 * 256 * 256  # every weight once a pixel
    assert macs(network, (1, 1, 256, 256)) / 1e9 == pytest.approx(43.56, abs=0.005)


def test_macs_grow_with_the_shape() -> None:
    assert macs(tiny(), (2, 1, 8, 16)) == weight_count(tiny()) * 2 * 8 * 16


def test_convolutions_are_3x3_without_bias() -> None:
    for conv in convolutions(build("vdsr")).values():
        assert (conv.kernel_size, conv.padding, conv.bias) == ((3, 3), (1, 1), None)


def test_zero_weights_return_the_input() -> None:
    network = tiny()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    x = torch.rand(2, 1, 9, 7)
    assert torch.equal(network(x), x)


def test_output_is_input_plus_residual() -> None:
    network, x = tiny(), torch.rand(2, 1, 9, 7)
    residual = network.conv(3)(torch.relu(network.conv(2)(torch.relu(network.conv(1)(x)))))
    assert torch.equal(network(x), x + residual)


def test_training_begins_close_to_the_bicubic_picture() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert (build("vdsr")(x) - x).abs().max() < 0.5  # unscaled last weights would be 30 times as far


def test_halo_is_one_pixel_a_convolution() -> None:
    network, x = tiny().double(), torch.rand(1, 1, 15, 15, dtype=torch.float64)
    assert network.halo() == 3
    changed = x.clone()
    changed[0, 0, 7, 7] += 1.0
    moved = (network(changed) - network(x))[0, 0].abs() > 0
    assert moved[7, 4]
    assert not moved[:, :4].any()
    assert not moved[:4].any()
    assert not moved[:, 11:].any()


@pytest.mark.parametrize("widths", [(), (1,), (8, 0, 1), (8, 8), (8, -1, 1)])
def test_widths_that_do_not_fit_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"VDSR: widths \(.*\) do not fit; give at least 2, all positive, the last 1"):
        VDSRConfig(widths)


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="architecture 'srcnn' is unknown; known: plain, vdsr"):
        build("srcnn")


def test_widths_and_name_lead_back_to_the_same_network() -> None:
    network = build_like(build("vdsr", (4, 6, 1)))
    assert (arch_of(network), widths_of(network)) == ("vdsr", (4, 6, 1))


def test_channel_groups_chain_the_convolutions() -> None:
    assert tiny().channel_groups() == (
        ChannelGroup(("conv1",), ("conv2",)),
        ChannelGroup(("conv2",), ("conv3",)),
    )


def test_convolution_that_is_none_is_no_convolution() -> None:
    network = tiny()
    network.add_module("other", nn.ReLU())
    assert list(convolutions(network)) == ["conv1", "conv2", "conv3"]


def test_card_states_the_network() -> None:
    card = card_of(tiny(), scales=(2, 3), default_scale=2)
    assert (card.arch, card.widths, card.scales, card.default_scale, card.halo) == ("vdsr", (8, 8, 1), (2, 3), 2, 3)


def test_loss_is_half_the_sum_of_squares_by_picture() -> None:
    sr, hr = torch.full((2, 1, 3, 4), 0.5), torch.zeros(2, 1, 3, 4)
    assert half_sum_of_squares(sr, hr).item() == 0.5 * 0.25 * 12


def test_l1_loss_is_the_mean_in_grey_levels() -> None:
    sr, hr = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.5]]]]), torch.tensor([[[[0.5, 1.0]]], [[[0.5, 1.0]]]])
    assert grey_levels(sr, hr).item() == 255.0 * 0.25

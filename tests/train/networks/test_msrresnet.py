"""MSRResNet: its size, what it computes, and what it says of itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import InputError
from sr_deploy.train.networks.msrresnet import MSRResNet, MSRResNetConfig, msrresnet_widths
from sr_deploy.train.networks.registry import build, build_like, card_of, weight_count, widths_of
from tests.helpers.networks import kept_at


@pytest.fixture(params=[2, 3, 4])
def network(request: pytest.FixtureRequest) -> MSRResNet:
    """Return a small network with random weights, so that nothing in it is dead."""
    torch.manual_seed(0)
    found = MSRResNet(MSRResNetConfig(msrresnet_widths(blocks=2, features=8, scale=request.param), request.param))
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.1)
    return found.eval()


def test_the_published_network_has_one_and_a_half_million_weights() -> None:
    rgb = build("msrresnet", config={"colors": 3})
    square = 9 * 64 * 64 + 64
    assert weight_count(rgb) == (9 * 3 * 64 + 64) + 32 * square + 2 * 4 * square + square + (9 * 64 * 3 + 3)


def test_without_weights_it_is_bilinear_enlargement(network: MSRResNet) -> None:
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    x, scale = torch.rand(2, 1, 7, 9), network.config.scale
    bilinear = nn.functional.interpolate(x, scale_factor=float(scale), mode="bilinear")
    assert torch.equal(network(x), bilinear) and network(x).shape == (2, 1, 7 * scale, 9 * scale)


def test_the_halo_is_what_reaches_an_output_pixel(network: MSRResNet) -> None:
    double, scale, side = network.double(), network.config.scale, 31
    x = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, side // 2, side // 2] += 1.0
    with torch.no_grad():
        moved = ((double(changed) - double(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    far = max(side // 2 - int(moved.min()) // scale, int(moved.max()) // scale - side // 2)
    assert far == network.halo()


def test_pruned_and_masked_compute_the_same(network: MSRResNet) -> None:
    masks = native_masks(network, kept_at(network, 0.5))
    small = without_filters(network, masks)
    assert check_equal(mask_filters(network, masks), small, torch.rand(1, 1, 17, 21)) <= 1e-5
    assert weight_count(small) < 0.35 * weight_count(network) and small.facts == network.facts
    assert len(set(widths_of(small)[:1] + widths_of(small)[2:5:2])) == 1 and widths_of(build_like(small)) == widths_of(small)


def test_its_card_says_what_builds_it_again(network: MSRResNet) -> None:
    scale = network.config.scale
    card = card_of(network, scales=(scale,), default_scale=scale)
    assert (card.arch, card.upscale, card.config) == ("msrresnet", "inside", {"scale": scale, "colors": 1})
    build(card.arch, card.widths, card.config).load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scale": 8}, "scale 8 is not served; choose among 2, 3, 4"),
        ({"colors": 4}, "4 colours"),
        ({"widths": (8, 8)}, "2 widths do not fit"),
        ({"widths": (8, 8, 8, 32, 32, 8, 8, 1)}, "8 widths do not fit"),
        ({"widths": (8, 8, 9, 32, 32, 8, 1)}, "what is added to one stream must have one width"),
        ({"widths": (8, 8, 8, 32, 30, 8, 1)}, r"30 channels before PixelShuffle\(2\)"),
        ({"widths": (8, 8, 8, 32, 32, 8, 3)}, "the last 1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MSRResNetConfig(**{"widths": msrresnet_widths(blocks=1, features=8), **config})  # type: ignore[arg-type]

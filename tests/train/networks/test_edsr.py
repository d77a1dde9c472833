"""EDSR: its published sizes, what it computes, and what it says of itself."""

from __future__ import annotations

import pytest
import torch

from sr_deploy.errors import InputError
from sr_deploy.train.networks.edsr import DIV2K_MEAN, EDSR, EDSRConfig, edsr_widths
from sr_deploy.train.networks.registry import build, card_of, convolutions, macs, weight_count, widths_of


def tiny(scale: int = 2, colors: int = 1, res_scale: float = 1.0) -> EDSR:
    torch.manual_seed(0)
    widths = edsr_widths(blocks=2, features=8, scale=scale, colors=colors)
    return EDSR(EDSRConfig(widths, scale, colors, res_scale)).eval()


@pytest.mark.parametrize(("scale", "weights"), [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)])
def test_the_baseline_has_the_published_number_of_weights(scale: int, weights: int) -> None:
    assert weight_count(build("edsr", config={"scale": scale, "colors": 3})) == weights


def test_the_large_network_has_43_million_weights() -> None:
    with torch.device("meta"):
        network = build("edsr", config={"blocks": 32, "features": 256, "colors": 3, "res_scale": 0.1})
    assert weight_count(network) == 40_729_603  # x2; table 1 of the paper counts x4: 43 M
    with torch.device("meta"):
        assert weight_count(build("edsr", config={"blocks": 32, "features": 256, "colors": 3, "scale": 4})) == 43_089_923


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("colors", [1, 3])
def test_the_output_is_scale_times_as_large(scale: int, colors: int) -> None:
    assert tiny(scale, colors)(torch.rand(2, colors, 9, 7)).shape == (2, colors, 9 * scale, 7 * scale)


def test_a_block_adds_its_scaled_residual() -> None:
    network, x = tiny(res_scale=0.1), torch.rand(1, 1, 8, 8)
    start = network.head(x)
    features = start
    for block in network.body:
        features = features + 0.1 * block.conv2(torch.relu(block.conv1(features)))  # type: ignore[operator]
    features = network.body_end(features) + start
    shuffled = torch.nn.functional.pixel_shuffle(network.up[0](features), 2)
    assert torch.allclose(network(x), network.tail(shuffled), atol=1e-6)


def test_the_mean_is_taken_off_and_put_back() -> None:
    network = tiny(colors=3)
    with torch.no_grad():
        for conv in convolutions(network).values():
            conv.weight.zero_()
            assert conv.bias is not None
            conv.bias.zero_()
    expected = torch.tensor(DIV2K_MEAN)[None, :, None, None].expand(1, 3, 8, 8)
    assert torch.allclose(network(torch.rand(1, 3, 4, 4)), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_halo_is_what_reaches_an_output_pixel(scale: int) -> None:
    network = tiny(scale).double()
    reach, side = network.halo(), 31
    x = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, side // 2, side // 2] += 1.0
    moved = ((network(changed) - network(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    far = max(side // 2 - int(moved.min()) // scale, int(moved.max()) // scale - side // 2)
    assert far == reach


def test_the_card_says_all_that_is_needed_to_build_it_again() -> None:
    network = tiny(4, 3, 0.1)
    card = card_of(network, scales=(4,), default_scale=4)
    assert (card.arch, card.upscale, card.color, card.halo) == ("edsr", "inside", "rgb", network.halo())
    again = build(card.arch, card.widths, card.config)
    assert again.facts == network.facts and widths_of(again) == widths_of(network)
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(again.eval()(x), network(x))


def test_multiplications_are_counted_at_the_size_where_they_are_done() -> None:
    network = tiny(2)
    inside = sum(c.weight.numel() for name, c in convolutions(network).items() if name != "tail")
    tail = network.tail.weight.numel()
    assert macs(network, (1, 1, 16, 16)) == 16 * 16 * inside + 32 * 32 * tail


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scale": 5}, "scale 5 is not served; choose among 2, 3, 4"),
        ({"colors": 2}, "2 colours"),
        ({"res_scale": 0.0}, "residual scaling 0.0"),
        ({"widths": (8, 8, 8, 8, 32)}, "widths"),
        ({"widths": (8, 8, 9, 8, 32, 1)}, "what is added to one stream must have one width"),
        ({"widths": (8, 8, 8, 8, 30, 1)}, r"30 channels before PixelShuffle\(2\)"),
        ({"widths": (8, 8, 8, 8, 32, 2)}, "the last 1"),
        ({"widths": (8, 0, 8, 8, 32, 1)}, "all must be 1 to 4096"),
        ({"widths": (1,)}, "do not fit"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EDSRConfig(**{"widths": edsr_widths(blocks=1, features=8), **config})  # type: ignore[arg-type]

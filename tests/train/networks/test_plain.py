"""The plain family: its published sizes, what it computes, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.removal import mask_filters, without_filters
from sr_deploy.errors import InputError
from sr_deploy.train.command import main
from sr_deploy.train.networks.plain import Plain, PlainConfig, plain_widths, rescale_filters
from sr_deploy.train.networks.registry import build, card_of, convolutions, macs, weight_count, widths_of
from sr_deploy.train.weights import checkpoint


def tiny(scale: int = 2, colors: int = 1, prelu: int = 0) -> Plain:
    torch.manual_seed(0)
    network = Plain(PlainConfig(plain_widths(blocks=2, features=8, scale=scale, colors=colors), scale, colors, prelu))
    for slope in network.slopes or ():
        nn.init.uniform_(slope.weight, 0.0, 0.5)  # type: ignore[arg-type]
    return network.eval()


@pytest.mark.parametrize(("preset", "kernels", "reach"), [((6, 32), 56_736, 8), ((7, 48), 147_312, 9), ((10, 64), 371_520, 12)])
def test_the_presets_have_the_sizes_they_are_known_by(preset: tuple[int, int], kernels: int, reach: int) -> None:
    network = build("plain", config={"blocks": preset[0], "features": preset[1]})
    assert sum(conv.weight.numel() for conv in convolutions(network).values()) == kernels
    assert network.halo() == reach == len(convolutions(network))


def test_the_default_is_l_at_x2() -> None:
    assert widths_of(build("plain")) == (48,) * 8 + (4,)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("colors", [1, 3])
def test_the_output_is_scale_times_as_large(scale: int, colors: int) -> None:
    assert tiny(scale, colors)(torch.rand(2, colors, 9, 7)).shape == (2, colors, 9 * scale, 7 * scale)


@pytest.mark.parametrize("colors", [1, 3])
def test_without_its_last_kernel_it_repeats_the_picture(colors: int) -> None:
    network, x = tiny(3, colors), torch.rand(2, colors, 5, 4)
    nn.init.zeros_(network.tail.weight)
    assert torch.equal(network(x), x.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3))


def test_prelu_has_a_slope_for_each_channel() -> None:
    network, x = tiny(prelu=1), torch.rand(1, 1, 8, 8)
    assert network.slopes is not None
    features = x
    for layer, slope in zip((network.head, *network.body), network.slopes, strict=True):
        features = nn.functional.prelu(layer(features), slope.weight)  # type: ignore[arg-type]
    expected = nn.functional.pixel_shuffle(network.tail(features) + x, 2)
    assert torch.allclose(network(x), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_halo_is_what_reaches_an_output_pixel(scale: int) -> None:
    network = tiny(scale).double()
    side = 21
    x = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, side // 2, side // 2] += 1.0
    moved = ((network(changed) - network(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    far = max(side // 2 - int(moved.min()) // scale, int(moved.max()) // scale - side // 2)
    assert far == network.halo()


@pytest.mark.parametrize("prelu", [0, 1])
def test_the_card_says_all_that_is_needed_to_build_it_again(prelu: int) -> None:
    network = tiny(4, 3, prelu)
    card = card_of(network, scales=(4,), default_scale=4)
    assert (card.arch, card.upscale, card.color, card.halo) == ("plain", "inside", "rgb", network.halo())
    again = build(card.arch, card.widths, card.config)
    assert again.facts == network.facts and widths_of(again) == widths_of(network)
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(again.eval()(x), network(x))


def test_everything_is_multiplied_at_the_size_of_the_small_picture() -> None:
    network = tiny(4)
    assert macs(network, (1, 1, 16, 16)) == 16 * 16 * sum(conv.weight.numel() for conv in convolutions(network).values())


def test_filters_are_removed_without_a_change_of_the_picture() -> None:
    network, x = tiny(2), torch.rand(1, 1, 9, 9)
    masks = {name: torch.rand(8) > 0.4 for name in convolutions(network) if name != "tail"}
    small = without_filters(network, masks)
    assert weight_count(small) < weight_count(network)
    assert torch.allclose(small(x), mask_filters(network, masks)(x), atol=1e-6)


def test_the_last_convolution_makes_the_pixels_and_is_never_pruned() -> None:
    network = tiny(2)
    assert "tail" not in {name for group in network.channel_groups() for name in group.producers}
    with pytest.raises(InputError, match="tail: its channels cannot be removed"):
        without_filters(network, {"tail": torch.tensor([True, True, True, False])})


@pytest.mark.parametrize("colors", [1, 3])
def test_a_network_of_another_scale_begins_with_its_picture(colors: int) -> None:
    x2, x4, x = tiny(2, colors), tiny(4, colors), torch.rand(1, colors, 6, 6)
    state = x2.state_dict()
    for name in ("tail.weight", "tail.bias"):
        state[name] = rescale_filters(state[name], colors=colors, old=2, new=4)
    x4.load_state_dict(state)
    assert torch.allclose(x4(x), x2(x).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), atol=1e-6)


def test_training_from_another_scale_takes_all_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = Path(__file__).resolve().parents[2] / "pictures"
    size = [
        "--arch",
        "plain",
        "--blocks",
        "1",
        "--width",
        "4",
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--patch",
        "24",
        "--threads",
        "1",
    ]
    first, second = tmp_path / "x2.safetensors", tmp_path / "x3.safetensors"
    assert main([str(photos), "-o", str(first), *size, "--scale", "2"]) == 0
    assert main([str(photos), "-o", str(second), *size, "--scale", "3", "--init-from", str(first)]) == 0
    assert "fresh" not in capsys.readouterr().err and checkpoint.read_card(second).scales == (3,)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scale": 9}, "scale 9 is not served; choose 1 to 8"),
        ({"colors": 2}, "2 colours"),
        ({"widths": (8,)}, "give 2 to 1024"),
        ({"widths": (8, 8)}, r"the last 4 \(colours x scale x scale\)"),
        ({"widths": (0, 4)}, "all positive"),
        ({"widths": (5000, 4)}, "5000 filters in one layer, the most is 4096"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PlainConfig(**config)  # type: ignore[arg-type]


def test_a_plain_network_is_begun_with_a_plain_one_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = Path(__file__).resolve().parents[2] / "pictures"
    edsr = build("edsr", config={"blocks": 1, "features": 4})
    checkpoint.save(tmp_path / "edsr.safetensors", edsr, card_of(edsr, scales=(2,), default_scale=2))
    run = ["--arch", "plain", "--blocks", "1", "--width", "4", "--steps", "1", "--init-from", str(tmp_path / "edsr.safetensors")]
    assert main([str(photos), "-o", str(tmp_path / "p.safetensors"), *run]) == 2
    assert "is edsr, a plain network begins with a plain one" in capsys.readouterr().err

"""MDSR: its published sizes, what it computes at each scale, and the network for one scale that shares its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.train.networks.edsr import DIV2K_MEAN
from sr_deploy.train.networks.mdsr import MDSR, MDSRConfig, mdsr_widths
from sr_deploy.train.networks.registry import (
    build,
    card_of,
    convolutions,
    macs,
    taken_at,
    weight_count,
    widths_of,
)
from sr_deploy.train.weights.warm_start import warm_start_

SCALES = (2, 3, 4)


def tiny(*scales: int, colors: int = 1, res_scale: float = 1.0) -> MDSR:
    torch.manual_seed(0)
    x2, x3, x4 = (int(scale in (scales or SCALES)) for scale in SCALES)
    widths = mdsr_widths(blocks=2, features=8, colors=colors, x2=x2, x3=x3, x4=x4)
    return MDSR(MDSRConfig(widths, x2, x3, x4, colors, res_scale)).eval()


@pytest.mark.parametrize(("blocks", "weights"), [(16, 3_227_203), (80, 7_953_987)])
def test_it_has_the_published_number_of_weights(blocks: int, weights: int) -> None:
    with torch.device("meta"):
        network = build("mdsr", config={"blocks": blocks, "colors": 3})
    assert weight_count(network) == weights  # table 1: 3.2 M and 8.0 M


def test_a_config_says_the_papers_baseline_by_default() -> None:
    assert MDSRConfig().widths == mdsr_widths() and (MDSRConfig().blocks, MDSRConfig().scales) == (16, SCALES)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("colors", [1, 3])
def test_the_output_is_scale_times_as_large(scale: int, colors: int) -> None:
    assert tiny(colors=colors)(torch.rand(2, colors, 9, 7), scale).shape == (2, colors, 9 * scale, 7 * scale)


def by_hand(network: MDSR, x: Tensor, scale: int, res_scale: float) -> Tensor:
    """Compute figure 5 from the convolutions alone."""
    convs = convolutions(network)
    features = convs["head"](x)

    def block(name: str, features: Tensor) -> Tensor:
        residual: Tensor = convs[f"{name}.conv2"](torch.relu(convs[f"{name}.conv1"](features)))
        return features + res_scale * residual

    for n in (0, 1):
        features = block(f"pre.x{scale}.{n}", features)
    start = features
    for n in range(network.config.blocks):
        features = block(f"body.{n}", features)
    features = convs["body_end"](features) + start
    for n, factor in enumerate({2: (2,), 3: (3,), 4: (2, 2)}[scale]):
        features = nn.functional.pixel_shuffle(convs[f"up.x{scale}.{n}"](features), factor)
    result: Tensor = convs["tail"](features)
    return result


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("res_scale", [1.0, 0.1])
def test_a_picture_goes_through_its_scales_branch_and_the_shared_body(scale: int, res_scale: float) -> None:
    network, x = tiny(res_scale=res_scale), torch.rand(1, 1, 8, 8)
    assert torch.allclose(network(x, scale), by_hand(network, x, scale, res_scale), atol=1e-6)


def test_the_pre_processing_has_kernels_of_five_and_all_else_of_three() -> None:
    for name, conv in convolutions(tiny()).items():
        assert conv.kernel_size == ((5, 5) if name.startswith("pre.") else (3, 3)), name


def test_the_mean_is_taken_off_and_put_back() -> None:
    network = tiny(colors=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    expected = torch.tensor(DIV2K_MEAN)[None, :, None, None].expand(1, 3, 12, 12)
    assert torch.allclose(network(torch.rand(1, 3, 4, 4), 3), expected)


def test_the_scale_is_named_where_several_are_served() -> None:
    x = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="scale None: this network serves 2, 3, 4; name one of them"):
        tiny()(x)
    with pytest.raises(ValueError, match="scale 3: this network serves 2, 4"):
        tiny(2, 4)(x, 3)
    one = tiny(3)
    assert torch.equal(one(x), one(x, 3))


@pytest.mark.parametrize("scale", SCALES)
def test_the_network_for_one_scale_computes_the_same_from_the_same_weights(scale: int) -> None:
    network, x = tiny(colors=3), torch.rand(1, 3, 6, 5)
    one = network.at_scale(scale)
    assert isinstance(one, MDSR) and one.config.scales == (scale,) and not one.training
    assert torch.equal(one(x), network(x, scale))
    whole = dict(network.named_parameters())
    assert all(parameter is whole[name] for name, parameter in one.named_parameters())
    assert widths_of(one) == one.config.widths
    assert list(convolutions(one)) == [name for name in convolutions(network) if name in convolutions(one)]
    with torch.no_grad():
        network.tail.weight.mul_(2.0)
    assert torch.equal(one(x), network(x, scale))


def test_what_serves_one_scale_is_returned_as_it_is() -> None:
    for network in (build("edsr", config={"blocks": 1, "features": 8}), build("vdsr", (8, 1)), tiny(3)):
        assert network.at_scale(3) is network and network.at_each_scale() == (network,)


def test_a_scale_that_is_not_served_is_refused() -> None:
    with pytest.raises(InputError, match="MDSR: scale 3 is not served; this network serves 2, 4"):
        tiny(2, 4).at_scale(3)


def test_the_whole_network_and_its_scales_are_trained_together() -> None:
    network = tiny()
    network.at_scale(2)(torch.rand(1, 1, 4, 4)).sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in reached if name.startswith(("pre.", "up."))} == {"x2"} and "body_end.weight" in reached


@pytest.mark.parametrize("scale", SCALES)
def test_the_halo_is_what_reaches_an_output_pixel(scale: int) -> None:
    network = tiny(scale).double()
    reach, side = network.halo(), 47
    x = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, side // 2, side // 2] += 1.0
    moved = ((network(changed) - network(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    far = max(side // 2 - int(moved.min()) // scale, int(moved.max()) // scale - side // 2)
    assert far == reach


def test_the_halo_of_several_scales_is_the_furthest() -> None:
    network = tiny()
    assert network.halo() == max(one.halo() for one in network.at_each_scale())


@pytest.mark.parametrize("scales", [(2,), (4, 2), SCALES])
def test_the_card_says_all_that_is_needed_to_build_it_again(scales: tuple[int, ...]) -> None:
    network = tiny(*scales, colors=3, res_scale=0.1)
    card = card_of(network, scales=tuple(sorted(scales)), default_scale=2)
    assert (card.arch, card.upscale, card.color, card.halo) == ("mdsr", "inside", "rgb", network.halo())
    assert card.config == {**{f"x{s}": int(s in scales) for s in SCALES}, "colors": 3, "res_scale": 0.1}
    again = build(card.arch, card.widths, card.config)
    assert again.facts == network.facts and widths_of(again) == widths_of(network)
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(again.eval()(x, 2), network(x, 2))


def test_the_card_of_one_scale_tells_of_that_alone() -> None:
    network = tiny()
    card = card_of(network, scales=SCALES, default_scale=2).with_changes(digest="sha256:" + "1" * 64)
    one, found = taken_at(network, card, 3)
    assert (found.scales, found.default_scale, found.widths, found.halo) == ((3,), 3, widths_of(one), one.halo())
    assert found.config == {"x2": 0, "x3": 1, "x4": 0, "colors": 1, "res_scale": 1.0} and found.digest == card.digest
    assert taken_at(one, found, 3) == (one, found)


@pytest.mark.parametrize("scale", SCALES)
def test_multiplications_are_counted_at_the_size_where_they_are_done(scale: int) -> None:
    one = tiny().at_scale(scale)
    sizes = dict.fromkeys(convolutions(one), 16 * 16) | {"tail": (16 * scale) ** 2, "up.x4.1": 32 * 32}
    expected = sum(conv.weight.numel() * sizes[name] for name, conv in convolutions(one).items())
    assert macs(one, (1, 1, 16, 16)) == expected


def test_what_an_edsr_learned_is_where_mdsr_begins() -> None:
    network, edsr = tiny(), build("edsr", config={"blocks": 2, "features": 8})
    notes = warm_start_(network, edsr.state_dict(), source="e")
    state = network.state_dict()
    shared = [name for name in edsr.state_dict() if name.split(".")[0] in ("head", "body", "body_end", "tail")]
    assert len(shared) == 14 and all(torch.equal(state[name], edsr.state_dict()[name]) for name in shared)
    fresh = {note.partition(":")[0] for note in notes if note.endswith("starts fresh")}
    assert fresh == {name for name in state if name.startswith(("pre.", "up."))}
    assert [note for note in notes if note.endswith("not used")] == ["up.0.weight: of e, not used", "up.0.bias: of e, not used"]


def test_a_scale_can_be_added_to_an_mdsr() -> None:
    network, first = tiny(), tiny(2, 4)
    x = torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01)
    notes = warm_start_(network, first.state_dict(), source="m")
    assert torch.equal(network(x, 4), first(x, 4))
    assert {note.partition(":")[0].split(".")[1] for note in notes} == {"x3"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"x2": 0}, r"scales \{'x2': 0, 'x3': 0, 'x4': 0\} do not fit"),
        ({"x2": 2}, "1 for each that is served, 0 for the others"),
        ({"colors": 2}, "2 colours"),
        ({"res_scale": 0.0}, "MDSR: residual scaling 0.0"),
        ({"widths": (8, 8, 8, 8, 8, 8, 32, 1)}, "with at least 3 block"),
        ({"widths": (8, 8, 9, 8, 8, 8, 8, 8, 32, 1)}, "what is added to one stream must have one width"),
        ({"widths": (8, 8, 8, 8, 8, 8, 8, 8, 30, 1)}, r"30 channels before PixelShuffle\(2\)"),
        ({"x3": 1, "widths": (8, *(8, 8) * 5, 8, 32, 81, 1)}, "the tail reads 8 of x2, 9 of x3, which must be equal"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MDSRConfig(**{"widths": mdsr_widths(blocks=1, features=8, x3=0, x4=0), "x3": 0, "x4": 0, **config})  # type: ignore[arg-type]

"""Tensors with a value for each channel go with the channels, whatever they are and wherever a network holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.compress.command import main as sr_prune
from sr_deploy.compress.pruning.masks import Masks, native_masks
from sr_deploy.compress.pruning.per_channel import values_of_channels
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import InputError
from sr_deploy.export.command import main as sr_export
from sr_deploy.train.networks import registry
from sr_deploy.train.networks.blocks import conv
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import Family, build, card_of, widths_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import kept_at

PICTURES = Path(__file__).resolve().parents[2] / "pictures"


@dataclass(frozen=True)
class ProbeConfig:
    """Output channels of the convolutions."""

    widths: tuple[int, ...] = (6, 24, 1)


class Probe(Network):
    """A norm, PReLU, a scale, an offset and a gain behind one convolution; PReLU in front of a shuffle behind the other."""

    upscale = "inside"

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config)
        n, wide, last = config.widths
        self.head, self.norm0, self.act0 = conv(1, n), nn.BatchNorm2d(n), nn.PReLU(n)
        self.scale = nn.Parameter(torch.ones(1, n, 1, 1))
        self.offset, self.gain = nn.Parameter(torch.zeros(n, 1, 1)), nn.Parameter(torch.ones(1))
        self.up, self.act1, self.norm1 = conv(n, wide), nn.PReLU(wide), nn.InstanceNorm2d(wide, affine=True)
        self.tail = conv(wide // 4, last)

    def forward(self, x: Tensor) -> Tensor:
        features = self.gain * self.scale * self.act0(self.norm0(self.head(x))) + self.offset
        return self.tail(nn.functional.pixel_shuffle(self.norm1(self.act1(self.up(features))), 2))  # type: ignore[no-any-return]

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        return ChannelGroup(("head",), ("up",)), ChannelGroup(("up",), ("tail",), block=4)

    def halo(self) -> int:
        return 3


class Mixing(Probe):
    """One whose offset is read the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.scale * self.act0(self.norm0(self.head(x))) + self.offset.flip(0)
        return self.tail(nn.functional.pixel_shuffle(self.norm1(self.act1(self.up(features))), 2))  # type: ignore[no-any-return]


def randomize(network: Network) -> Network:
    """Return the network with random tensors, those of norms among them."""
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            nn.init.uniform_(value, *((0.5, 2.0) if name.endswith("running_var") else (-0.4, 0.4)))
    return network.eval()


def masks_of(network: Network) -> Masks:
    return native_masks(network, kept_at(network, 0.5))


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of this file, registered."""
    for name, made in (("probe", Probe), ("mixing", Mixing)):
        monkeypatch.setitem(registry.FAMILIES, name, family_of(made))


def family_of(made: Callable[[ProbeConfig], Network]) -> Family:
    return Family(lambda widths, _: made(ProbeConfig(widths)), lambda _: ProbeConfig().widths)


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("probe", {}),
        ("plain", {"prelu": 1, "blocks": 2, "features": 8}),
        ("srresnet", {"blocks": 2, "features": 8}),  # as it is trained: with batch normalisation, one slope for all channels
        ("srresnet", {"blocks": 2, "features": 8, "norm": 0}),
        ("srresnet", {"blocks": 1, "features": 8, "norm": 2, "end_act": 1, "scale": 2}),
    ],
)
def test_the_smaller_network_computes_what_the_masked_one_does(arch: str, config: dict[str, float]) -> None:
    network = randomize(build(arch, config=config))
    masks = masks_of(network)
    small, masked = without_filters(network, masks), mask_filters(network, masks)
    x = torch.rand(1, 1, 9, 11)
    assert check_equal(masked, small, x) <= 1e-5
    assert not torch.allclose(masked(x), network(x), atol=1e-3)  # something was masked
    assert sum(widths_of(small)) < 0.6 * sum(widths_of(network))


def test_every_value_of_a_channel_is_found_and_no_other() -> None:
    head, up = values_of_channels(build("probe")).values()
    norm = {f"norm0.{part}": (0, 1) for part in ("weight", "bias", "running_mean", "running_var")}
    assert head == {**norm, "act0.weight": (0, 1), "scale": (1, 1), "offset": (0, 1)}
    assert up == {"act1.weight": (0, 4), "norm1.weight": (0, 4), "norm1.bias": (0, 4)}
    assert values_of_channels(build("vdsr", (4, 4, 1))) == {} == values_of_channels(build("mdsr", config={"blocks": 1}))


def test_the_values_of_the_channels_that_stay_are_copied() -> None:
    network = randomize(build("plain", config={"prelu": 1, "blocks": 1, "features": 6}))
    masks = masks_of(network)
    before, after = network.state_dict(), without_filters(network, masks).state_dict()
    for number, name in enumerate(("head", "body.0")):
        assert torch.equal(after[f"slopes.{number}.weight"], before[f"slopes.{number}.weight"][masks[name]])


def test_values_whose_channels_are_not_known_are_named() -> None:
    network = randomize(build("mixing"))
    with pytest.raises(
        InputError, match=r"^offset: holds \(6, 1, 1\) values, the smaller network \(3, 1, 1\), and which of them"
    ):
        without_filters(network, masks_of(network))


def test_a_network_of_prelu_goes_through_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build("plain", config={"prelu": 1, "blocks": 2, "features": 8})
    for slope in network.slopes:  # type: ignore[union-attr]
        nn.init.uniform_(slope.weight, 0.0, 0.5)
    dense, small = tmp_path / "dense.safetensors", tmp_path / "small.safetensors"
    checkpoint.save(dense, network, card_of(network, scales=(2,), default_scale=2))
    data = ["--data", str(PICTURES), "--batch-size", "2", "--patch", "24", "--threads", "1"]
    assert sr_prune([str(dense), "-o", str(small), *data, "--finetune-steps", "1", "--qat", "--qat-steps", "1"]) == 0
    card = checkpoint.read_card(small)
    assert (card.widths, card.config["prelu"]) == ((4, 4, 4, 4), 1)
    assert checkpoint.tensors(small)["slopes.0.weight"].shape == (4,)
    small_export = ["--shape", "1", "1", "32", "32", "--calib", str(PICTURES), "--calib-tiles", "1"]
    assert sr_export([str(small), "-o", str(tmp_path), *small_export]) == 0
    assert (tmp_path / "small_int8.onnx").is_file()

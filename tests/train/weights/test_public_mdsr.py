"""MDSR of EDSR-PyTorch: its tensors make our network compute its picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.train.networks.mdsr import MDSR
from sr_deploy.train.networks.registry import convolutions, weight_count
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.public_mdsr import edsr_pytorch_mdsr
from tests.helpers.others import saved

State = dict[str, Tensor]
MEAN = (0.4488, 0.4371, 0.4040)


class Body(nn.Module):
    """A residual block by the names of the repository: ``body.0``, ReLU, ``body.2``."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, kernel, padding=kernel // 2) for _ in range(2))
        self.body = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def shift(sign: float, levels: float) -> nn.Conv2d:
    """Return the 1x1 convolution that takes the mean off or puts it back."""
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
        assert conv.bias is not None
        conv.bias.copy_(sign * levels * torch.tensor(MEAN))
    return conv


def upsampler(scale: int, width: int) -> nn.Sequential:
    """Return one 3 for x3, a 2 for each doubling otherwise."""
    factors = [3] if scale == 3 else [2] * int(math.log2(scale))
    return nn.Sequential(*(part for r in factors for part in (nn.Conv2d(width, r * r * width, 3, padding=1), nn.PixelShuffle(r))))


class Theirs(nn.Module):
    """The published structure (CVPRW 2017, figure 5), by the names of the repository, for pictures in [0, ``levels``]."""

    def __init__(self, scales: tuple[int, ...] = (2, 3, 4), *, levels: float = 255.0, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        self.scales = scales
        self.sub_mean, self.add_mean = shift(-1.0, levels), shift(1.0, levels)
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1))
        self.pre_process = nn.ModuleList(nn.Sequential(Body(width, 5), Body(width, 5)) for _ in scales)
        self.body = nn.Sequential(*(Body(width, 3) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1))
        self.upsample = nn.ModuleList(upsampler(scale, width) for scale in scales)
        self.tail = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor, scale: int) -> Tensor:
        index = self.scales.index(scale)
        x = self.pre_process[index](self.head(self.sub_mean(x)))
        out: Tensor = self.add_mean(self.tail(self.upsample[index](self.body(x) + x)))
        return out


@pytest.mark.parametrize("scales", [(2, 3, 4), (4, 2, 3)])
@pytest.mark.parametrize("levels", [255.0, 1.0])
def test_it_computes_their_picture(scales: tuple[int, ...], levels: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = Theirs(scales, levels=levels).eval()
    network, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "m.pt"))
    assert isinstance(network, MDSR) and weight_count(network) == weight_count(theirs) - 24  # their shifts are weights
    assert (card.arch, card.scales, card.color, card.upscale) == ("mdsr", (2, 3, 4), "rgb", "inside")
    assert card.recipe["source"] == "weights of EDSR-PyTorch MDSR"
    x = torch.rand(1, 3, 11, 9)
    for scale in scales:
        with torch.no_grad():
            ours, expected = network.at_scale(scale)(x) * 255.0, theirs(x * levels, scale) * (255.0 / levels)
        assert expected.std() > 1.0 and (ours - expected).abs().max() < 1e-4 * 255.0  # float32 sums at 255 times the size


def test_filters_keep_their_size_because_pruning_compares_them(tmp_path: Path) -> None:
    theirs = Theirs()
    network, _ = checkpoint.load(saved(theirs.state_dict(), tmp_path / "m.pt"))
    convs, own = convolutions(network), theirs.state_dict()
    for ours, name in (("head", "head.0"), ("pre.x3.1.conv2", "pre_process.1.1.body.2"), ("body_end", "body.3")):
        assert torch.equal(convs[ours].weight, own[f"{name}.weight"])
        assert torch.equal(convs[ours].bias, own[f"{name}.bias"] / 255.0)  # type: ignore[arg-type]


def test_a_file_with_fewer_scales_serves_those(tmp_path: Path) -> None:
    network, card = checkpoint.load(saved(Theirs((3, 4)).state_dict(), tmp_path / "m.pt"))
    assert (card.scales, card.default_scale, card.config["x2"]) == ((3, 4), 3, 0)
    assert network(torch.rand(1, 3, 5, 5), 4).shape == (1, 3, 20, 20)


def test_without_a_mean_shift_in_the_file_the_range_is_assumed_and_said(tmp_path: Path) -> None:
    state = {name: value for name, value in Theirs().state_dict().items() if not name.startswith(("sub_mean", "add_mean"))}
    torch.save(state, tmp_path / "mdsr.pt")
    _, card = checkpoint.load(tmp_path / "mdsr.pt")
    assert card.recipe["source.range"].startswith("255 (assumed") and card.recipe["source.res_scale"].startswith("1 ")


def test_another_network_is_none_of_it() -> None:
    state = {"head.0.weight": torch.zeros(6, 3, 3, 3), "tail.0.weight": torch.zeros(3, 6, 3, 3)}  # EDSR of the same repository
    assert edsr_pytorch_mdsr(state, Path("a.pt")) is None
    assert edsr_pytorch_mdsr({"pre_process.0.weight": torch.zeros(1)}, Path("a.pt")) is None


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("tail.0.bias"), "tail.0.bias is missing"),
        (without("sub_mean.bias"), "sub_mean.bias"),
        (without("body.1.body.0.weight"), "body.1.body.0.weight is missing"),
        (lambda state: state | {"head.0.weight": torch.tensor(1.0)}, "0-d tensor"),
        (lambda state: state | {"tail.0.bias": torch.full((3,), torch.nan)}, "tail.0.bias holds NaN or infinity"),
        (lambda state: state | {"extra.weight": torch.zeros(1)}, "extra.weight is of no part of it"),
        (lambda state: state | {"body.1.body.2.weight": torch.zeros(6, 6, 5, 5)}, "size mismatch for body.1.conv2.weight"),
        (lambda state: state | {"sub_mean.bias": -torch.tensor((100.0, 110.0, 120.0))}, r"mean shift \(-100, -110, -120\)"),
        (lambda state: state | {"add_mean.bias": state["sub_mean.bias"]}, "mean shift"),
        (lambda state: state | {"sub_mean.weight": torch.zeros(3, 3, 1, 1)}, "mean shift"),
        (lambda state: Theirs((2, 8)).state_dict(), "its upsamplers enlarge by 2, 2x2x2; served are 2, 3, 4, each once"),
        (lambda state: Theirs((2, 2)).state_dict(), "its upsamplers enlarge by 2, 2; served"),
    ],
)
def test_a_damaged_file_is_named(change: Callable[[State], State], words: str, tmp_path: Path) -> None:
    torch.save(change(Theirs().state_dict()), tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"m\.pt: looks like EDSR-PyTorch's MDSR, but .*" + words):
        checkpoint.load(tmp_path / "m.pt")


def test_it_is_evaluated_exported_and_gated_as_it_is(photos: Path, tmp_path: Path) -> None:
    export = pytest.importorskip("sr_deploy.export.command").main
    gate = pytest.importorskip("sr_deploy.gate.command").main
    torch.manual_seed(0)
    path = saved(Theirs(blocks=1).state_dict(), tmp_path / "mdsr.pt")
    assert evaluate([str(path), "--data", str(photos), "--threads", "1", "--scale", "2", "3", "4"]) == 0
    options = ["--shape", "1", "3", "40", "40", "--calib", str(photos), "--threads", "1", "--precision", "fp32", "--scale", "3"]
    assert export([str(path), "-o", str(tmp_path), *options]) == 0
    (tmp_path / "gates.toml").write_text("[fp32]\nmin_agreement_db = 90\nmax_weight_error_steps = 0\n")
    checks = ["--reference", str(path), "--data", str(photos), "--budget", str(tmp_path / "gates.toml"), "--threads", "1"]
    assert gate([str(tmp_path / "mdsr_x3_fp32.onnx"), *checks]) == 0

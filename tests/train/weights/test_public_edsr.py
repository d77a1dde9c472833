"""EDSR's checkpoints of EDSR-PyTorch and BasicSR: loaded as they are, they compute what their repositories compute.

The reference modules follow the published structure: names of the parts, order of operations, value ranges.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.train.weights import checkpoint
from tests.helpers.others import BasicBlock, graph_apart, levels_apart, saved

MEAN = (0.4488, 0.4371, 0.4040)
LEVELS = 1e-3  # of 255: far below rounding to 8 bits; float32 gives about 1e-4


def conv(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1)


def upsampler(scale: int, width: int) -> nn.Sequential:
    steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    return nn.Sequential(*(part for r in steps for part in (conv(width, width * r * r), nn.PixelShuffle(r))))


class MeanShift(nn.Conv2d):
    """A 1x1 convolution that adds ``sign`` times the mean."""

    def __init__(self, value_range: float, sign: int) -> None:
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3)[:, :, None, None]
        self.bias = nn.Parameter(sign * value_range * torch.tensor(MEAN))


class PytorchBlock(nn.Module):
    """A residual block of EDSR-PyTorch."""

    def __init__(self, width: int, res_scale: float) -> None:
        super().__init__()
        self.body, self.res_scale = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)), res_scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out * self.res_scale + x


class Pytorch(nn.Module):
    """EDSR of EDSR-PyTorch: [0, value_range] in and out."""

    def __init__(
        self, scale: int, *, width: int = 8, res_scale: float = 1.0, value_range: float = 255.0, colors: int = 3
    ) -> None:
        super().__init__()
        self.colors = colors
        if colors == 3:
            self.sub_mean, self.add_mean = MeanShift(value_range, -1), MeanShift(value_range, 1)
        self.head = nn.Sequential(conv(colors, width))
        self.body = nn.Sequential(*(PytorchBlock(width, res_scale) for _ in range(2)), conv(width, width))
        self.tail = nn.Sequential(upsampler(scale, width), conv(width, colors))

    def forward(self, x: Tensor) -> Tensor:
        start = self.head(self.sub_mean(x) if self.colors == 3 else x)
        out: Tensor = self.tail(self.body(start) + start)
        return self.add_mean(out) if self.colors == 3 else out


class Basic(nn.Module):
    """EDSR of BasicSR: [0, 1] in and out, 255 times that inside."""

    def __init__(self, scale: int, *, width: int = 8, res_scale: float = 1.0) -> None:
        super().__init__()
        self.conv_first = conv(3, width)
        self.body = nn.Sequential(*(BasicBlock(width, res_scale) for _ in range(2)))
        self.conv_after_body = conv(width, width)
        self.upsample = upsampler(scale, width)
        self.conv_last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.tensor(MEAN)[:, None, None]
        start = self.conv_first((x - mean) * 255.0)
        out: Tensor = self.conv_last(self.upsample(self.conv_after_body(self.body(start)) + start))
        return out / 255.0 + mean


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_pytorch_computes_the_same(scale: int, tmp_path: Path) -> None:
    theirs = Pytorch(scale)
    ours, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "edsr.pt"))
    assert levels_apart(ours, theirs) < LEVELS and graph_apart(ours) < LEVELS
    assert (card.arch, card.color, card.upscale, card.scales, card.default_scale) == ("edsr", "rgb", "inside", (scale,), scale)
    assert card.recipe["source"] == "weights of EDSR-PyTorch" and card.digest == card.recipe["source.digest"]
    assert card.recipe["source.range"] == "255 (by its mean shift)"
    assert card.recipe["source.res_scale"] == "1 (by its 8 features, not in the file)"


@pytest.mark.parametrize("value_range", [1.0, 255.0])
def test_the_range_is_read_off_the_mean_shift(value_range: float, tmp_path: Path) -> None:
    theirs = Pytorch(2, value_range=value_range)
    ours, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "edsr.pt"))
    assert levels_apart(ours, theirs, value_range) < LEVELS
    assert card.recipe["source.range"] == f"{value_range:g} (by its mean shift)"
    # And it matters: read with the other range, the same weights give another picture.
    shifts = Pytorch(2, value_range=256.0 - value_range).state_dict()
    wrong = {**theirs.state_dict(), **{name: value for name, value in shifts.items() if "_mean." in name}}
    assert levels_apart(checkpoint.load(saved(wrong, tmp_path / "wrong.pt"))[0], theirs, value_range) > 1.0


def test_without_a_mean_shift_in_the_file_255_is_assumed_and_said(tmp_path: Path) -> None:
    theirs = Pytorch(2)
    state = {name: value for name, value in theirs.state_dict().items() if "_mean." not in name}
    ours, card = checkpoint.load(saved(state, tmp_path / "edsr.pt"))
    assert levels_apart(ours, theirs) < LEVELS
    assert card.recipe["source.range"].startswith("255 (assumed")


def test_the_large_network_scales_its_residuals(tmp_path: Path) -> None:
    theirs = Pytorch(2, width=256, res_scale=0.1)
    ours, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "edsr.pt"))
    assert levels_apart(ours, theirs) < LEVELS
    assert card.config["res_scale"] == 0.1 and card.recipe["source.res_scale"] == "0.1 (by its 256 features, not in the file)"


def test_an_edsr_of_one_colour_has_no_mean(tmp_path: Path) -> None:
    theirs = Pytorch(3, colors=1)
    ours, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "edsr.pt"))
    assert card.color == "y" and levels_apart(ours, theirs, colors=1) < LEVELS and graph_apart(ours, 1) < LEVELS


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("wrapped", ["params", "params_ema", "safetensors"])
def test_basicsr_edsr_computes_the_same(scale: int, wrapped: str, tmp_path: Path) -> None:
    theirs = Basic(scale)
    if wrapped == "safetensors":
        path = tmp_path / "a.safetensors"
        safetensors.torch.save_file(theirs.state_dict(), str(path))
    else:
        path = saved({wrapped: theirs.state_dict()}, tmp_path / "a.pth")
    ours, card = checkpoint.load(path)
    assert levels_apart(ours, theirs, 1.0) < LEVELS and graph_apart(ours) < LEVELS
    assert (card.arch, card.color, card.scales) == ("edsr", "rgb", (scale,))
    assert card.recipe["source"] == "weights of BasicSR EDSR" and card.recipe["source.range"].startswith("255 (its default")


def test_basicsr_large_scales_its_residuals(tmp_path: Path) -> None:
    theirs = Basic(4, width=256, res_scale=0.1)
    assert levels_apart(checkpoint.load(saved({"params": theirs.state_dict()}, tmp_path / "a.pth"))[0], theirs, 1.0) < LEVELS


def test_every_missing_tensor_is_named(tmp_path: Path) -> None:
    for family, network in (("EDSR-PyTorch", Pytorch(4)), ("BasicSR EDSR", Basic(4))):
        state = network.state_dict()
        for name in state:
            path = saved({other: value for other, value in state.items() if other != name}, tmp_path / "a.pt")
            with pytest.raises(InputError, match=rf"a\.pt: looks like {family}, but {name} is missing") as caught:
                checkpoint.load(path)
            assert "\n" not in str(caught.value)


def test_every_damaged_tensor_is_named(tmp_path: Path) -> None:
    for family, network in (("EDSR-PyTorch", Pytorch(2)), ("BasicSR EDSR", Basic(2))):
        state = network.state_dict()
        for name, value in state.items():
            with pytest.raises(InputError, match=rf"looks like {family}, but {name} is \d.* is needed"):
                checkpoint.load(saved({**state, name: value[:-1]}, tmp_path / "a.pt"))
            with pytest.raises(InputError, match=rf"looks like {family}, but {name} is one number|four dimensions are needed"):
                checkpoint.load(saved({**state, name: value.sum()}, tmp_path / "a.pt"))
            with pytest.raises(InputError, match=rf"looks like {family}, but {name} holds NaN"):
                checkpoint.load(saved({**state, name: value * float("nan")}, tmp_path / "a.pt"))


def test_a_name_with_a_huge_number_takes_no_memory(tmp_path: Path) -> None:
    for name in ("body.99999999999.body.0.weight", "body.99999999999.conv1.weight"):
        network = Pytorch(2) if "body.0" in name else Basic(2)
        with pytest.raises(InputError, match="a name in it holds the number 99999999999; 1024 blocks are the most"):
            checkpoint.load(saved({**network.state_dict(), name: torch.zeros(8, 8, 3, 3)}, tmp_path / "a.pt"))


def test_another_mean_shift_is_refused(tmp_path: Path) -> None:
    state = Pytorch(2).state_dict()
    for name, value in (("sub_mean.bias", torch.tensor([-120.0, -115.0, -100.0])), ("add_mean.bias", torch.zeros(3))):
        with pytest.raises(InputError, match=r"its mean shift .* is no range times DIV2K's mean"):
            checkpoint.load(saved({**state, name: value}, tmp_path / "a.pt"))
    with pytest.raises(InputError, match="its mean shift"):
        checkpoint.load(saved({**state, "sub_mean.weight": 2.0 * state["sub_mean.weight"]}, tmp_path / "a.pt"))


def test_a_scale_that_is_not_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pt: looks like EDSR-PyTorch, but EDSR: scale 8 is not served; choose among 2, 3"):
        checkpoint.load(saved(Pytorch(8).state_dict(), tmp_path / "a.pt"))


def test_a_relative_with_parts_of_its_own_is_not_taken_for_edsr(tmp_path: Path) -> None:
    state = {**Pytorch(2).state_dict(), "pre_process.0.0.body.0.weight": torch.zeros(8, 8, 5, 5)}
    with pytest.raises(InputError, match=r"looks like EDSR-PyTorch's MDSR, but its upsamplers enlarge by nothing"):
        checkpoint.load(saved(state, tmp_path / "a.pt"))


def test_a_network_of_another_mean_shift_of_colours_is_refused(tmp_path: Path) -> None:
    theirs = Basic(2)
    theirs.conv_first, theirs.conv_last = conv(1, 8), conv(8, 1)
    with pytest.raises(InputError, match="looks like BasicSR EDSR, but reads 1 channels; its mean shift is of RGB"):
        checkpoint.load(saved({"params": theirs.state_dict()}, tmp_path / "a.pth"))


def test_an_rgb_file_goes_through_the_commands_as_it_is(tmp_path: Path, photos: Path) -> None:
    from sr_deploy.export.command import main as export
    from sr_deploy.gate.eval.command import main as evaluate
    from sr_deploy.runtime.backends.onnx_file import read_card
    from sr_deploy.runtime.infer.command import main as infer

    torch.manual_seed(0)
    path = saved(Pytorch(2).state_dict(), tmp_path / "edsr_baseline_x2.pt")
    assert evaluate([str(path), "--data", str(photos), "--threads", "1"]) == 0
    shape = ["--shape", "1", "3", "40", "40", "--calib", str(photos), "--threads", "1"]
    assert export([str(path), "-o", str(tmp_path), "--precision", "fp32", "int8", *shape]) == 0
    engine = tmp_path / "edsr_baseline_x2_int8.onnx"
    assert read_card(engine).color == "rgb" and read_card(engine).scales == (2,)
    assert infer(["--engine", str(engine), str(photos / "0.png"), "-o", str(tmp_path / "out.png"), "--threads", "1"]) == 0
    assert (tmp_path / "out.png").exists()

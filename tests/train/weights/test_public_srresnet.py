"""SRResNet's relatives (BasicSR's MSRResNet, leftthomas/SRGAN, pytorch-SRResNet): loaded, they compute what theirs compute.

The reference modules follow the published structure: names of the parts, order of operations, value ranges.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.train.weights import checkpoint
from tests.helpers.others import BasicBlock, graph_apart, levels_apart, saved

LEVELS = 1e-3  # of 255: far below rounding to 8 bits; float32 gives about 1e-4


def conv(n_in: int, n_out: int, kernel: int = 3, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=bias)


class Basic(nn.Module):
    """MSRResNet of BasicSR."""

    def __init__(self, scale: int, *, colors: int = 3, width: int = 8) -> None:
        super().__init__()
        self.scale, step = scale, 3 if scale == 3 else 2
        self.conv_first = conv(colors, width)
        self.body = nn.Sequential(BasicBlock(width), BasicBlock(width))
        self.upconv1 = conv(width, width * step**2)
        if scale == 4:
            self.upconv2 = conv(width, width * 4)
        self.pixel_shuffle = nn.PixelShuffle(step)
        self.conv_hr, self.conv_last = conv(width, width), conv(width, colors)

    def forward(self, x: Tensor) -> Tensor:
        act = nn.LeakyReLU(0.1)
        out = act(self.pixel_shuffle(self.upconv1(self.body(act(self.conv_first(x))))))
        if self.scale == 4:
            out = act(self.pixel_shuffle(self.upconv2(out)))
        picture: Tensor = self.conv_last(act(self.conv_hr(out)))
        return picture + nn.functional.interpolate(x, scale_factor=float(self.scale), mode="bilinear", align_corners=False)


class GanBlock(nn.Module):
    """A residual block of leftthomas/SRGAN."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(width, width), nn.BatchNorm2d(width), nn.PReLU()
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return x + out


class GanUp(nn.Module):
    """An enlargement by 2 of leftthomas/SRGAN."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.pixel_shuffle, self.prelu = conv(width, width * 4), nn.PixelShuffle(2), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(self.pixel_shuffle(self.conv(x)))
        return out


class Gan(nn.Module):
    """The generator of leftthomas/SRGAN, five residual blocks; ``older``: the long skip ends in a PReLU."""

    def __init__(self, scale: int, *, older: bool = False, width: int = 8) -> None:
        super().__init__()
        self.block1 = nn.Sequential(conv(3, width, 9), nn.PReLU())
        for number in range(2, 7):
            self.add_module(f"block{number}", GanBlock(width))
        self.block7 = nn.Sequential(conv(width, width), nn.PReLU() if older else nn.BatchNorm2d(width))
        self.block8 = nn.Sequential(*(GanUp(width) for _ in range(scale.bit_length() - 1)), conv(width, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        start = self.block1(x)
        out = start
        for number in range(2, 8):
            out = self.get_submodule(f"block{number}")(out)
        return (torch.tanh(self.block8(start + out)) + 1) / 2


class TwtyBlock(nn.Module):
    """A residual block of pytorch-SRResNet, with batch (``bn``) or instance (``in``) normalisation."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        for number in (1, 2):
            self.add_module(f"conv{number}", conv(width, width, bias=False))
            self.add_module(f"{kind}{number}", norm(width, kind))
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for number in (1, 2):
            out = self.get_submodule(f"{self.kind}{number}")(self.get_submodule(f"conv{number}")(out))
            out = nn.functional.leaky_relu(out, 0.2) if number == 1 else out
        return out + x


class Twty(nn.Module):
    """The network of pytorch-SRResNet."""

    def __init__(self, kind: str, *, width: int = 8) -> None:
        super().__init__()
        self.conv_input = conv(3, width, 9, bias=False)
        self.residual = nn.Sequential(TwtyBlock(width, kind), TwtyBlock(width, kind))
        self.conv_mid, self.bn_mid = conv(width, width, bias=False), norm(width, kind)
        step = [conv(width, width * 4, bias=False), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
        self.upscale4x = nn.Sequential(*step, conv(width, width * 4, bias=False), nn.PixelShuffle(2), nn.LeakyReLU(0.2))
        self.conv_output = conv(width, 3, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        start = nn.functional.leaky_relu(self.conv_input(x), 0.2)
        out = self.bn_mid(self.conv_mid(self.residual(start))) + start
        picture: Tensor = self.conv_output(self.upscale4x(out))
        return picture


def norm(width: int, kind: str) -> nn.Module:
    return nn.BatchNorm2d(width) if kind == "bn" else nn.InstanceNorm2d(width, affine=True)


def trained(network: nn.Module) -> nn.Module:
    """Return the network with norms that have seen data and slopes that differ, so that nothing is at its default."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.4)
    network.train()
    for _ in range(5):
        network(torch.rand(4, 3, 16, 16))
    return network.eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("colors", [1, 3])
def test_msrresnet_computes_the_same(scale: int, colors: int, tmp_path: Path) -> None:
    theirs = Basic(scale, colors=colors)
    ours, card = checkpoint.load(saved({"params": theirs.state_dict()}, tmp_path / "a.pth"))
    assert levels_apart(ours, theirs, 1.0, colors=colors) < LEVELS and graph_apart(ours, colors) < LEVELS
    assert (card.arch, card.color, card.scales) == ("msrresnet", {1: "y", 3: "rgb"}[colors], (scale,))
    assert card.recipe["source"] == "weights of BasicSR MSRResNet" and card.digest == card.recipe["source.digest"]


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("older", [False, True])
def test_srgan_computes_the_same(scale: int, older: bool, tmp_path: Path) -> None:
    theirs = trained(Gan(scale, older=older))
    state, path = theirs.state_dict(), tmp_path / "netG_epoch_4_100.pth"
    if older:  # as PyTorch before 0.4 wrote it
        state = {name: value for name, value in state.items() if "num_batches" not in name}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(state, path)
    ours, card = checkpoint.load(path)
    assert (
        levels_apart(ours, theirs, 1.0) < LEVELS
        and levels_apart(ours.folded(), theirs, 1.0) < LEVELS
        and graph_apart(ours) < LEVELS
    )
    assert (card.arch, card.color, card.scales, card.config["tanh"]) == ("srresnet", "rgb", (scale,), 1)
    assert card.recipe["source"] == "weights of leftthomas/SRGAN"


def test_srresnet_with_batch_normalisation_computes_the_same(tmp_path: Path) -> None:
    theirs = trained(Twty("bn"))
    ours, card = checkpoint.load(saved({"epoch": 1, "model": theirs.state_dict()}, tmp_path / "a.pth"))
    assert (
        levels_apart(ours, theirs, 1.0) < LEVELS
        and levels_apart(ours.folded(), theirs, 1.0) < LEVELS
        and graph_apart(ours) < LEVELS
    )
    assert (card.arch, card.color, card.scales) == ("srresnet", "rgb", (4,))
    assert card.recipe["source.activation"] == "LeakyReLU 0.2 (its published form, not in the file)"


@pytest.mark.parametrize("running", [False, True])
def test_srresnet_with_instance_normalisation_is_evaluated_and_not_exported(
    running: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = trained(Twty("in"))
    state = theirs.state_dict()
    if running:  # PyTorch before 0.4 wrote them and used them nowhere
        norms = [name.removesuffix(".bias") for name in state if name.endswith(".bias")]
        state = {**state, **{f"{name}.running_{part}": torch.full((8,), 7.0) for name in norms for part in ("mean", "var")}}
    path = saved({"model": state}, tmp_path / "a.pth")
    ours, card = checkpoint.load(path)
    assert levels_apart(ours, theirs, 1.0) < LEVELS and card.config["norm"] == 2
    with pytest.raises(InputError, match="so tiles could not be exact"):
        ours.folded()
    export = pytest.importorskip("sr_deploy.export.command").main
    assert export([str(path), "-o", str(tmp_path / "out"), "--shape", "1", "3", "64", "64"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "so tiles could not be exact" in line and not (tmp_path / "out").exists()


def test_the_module_that_pytorch_srresnet_saves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a pickled module or other objects, and loading one runs code"):
        checkpoint.load(saved({"epoch": 1, "model": Twty("in")}, tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("family", "network"),
    [
        ("BasicSR MSRResNet", lambda: Basic(4)),
        ("leftthomas/SRGAN", lambda: Gan(4)),
        ("leftthomas/SRGAN", lambda: Gan(2, older=True)),
        ("pytorch-SRResNet", lambda: Twty("bn")),
        ("pytorch-SRResNet", lambda: Twty("in")),
    ],
)
def test_every_missing_or_damaged_tensor_is_named(family: str, network: Callable[[], nn.Module], tmp_path: Path) -> None:
    state = {name: value for name, value in network().state_dict().items() if "num_batches" not in name}
    for number, (name, value) in enumerate(state.items()):
        with pytest.raises(InputError, match=rf"looks like {family}, but {name} is missing"):
            checkpoint.load(saved({other: v for other, v in state.items() if other != name}, tmp_path / "a.pth"))
        if number % 4:
            continue
        with pytest.raises(InputError, match=rf"looks like {family}, but {name} is \d.* is needed"):
            checkpoint.load(saved({**state, name: torch.cat([value, value[:1]])}, tmp_path / "a.pth"))
        with pytest.raises(InputError, match=rf"looks like {family}, but {name} holds NaN or infinity"):
            checkpoint.load(saved({**state, name: value / 0.0}, tmp_path / "a.pth"))


def test_a_network_with_more_parts_is_another(tmp_path: Path) -> None:
    for network in (Basic(2), Gan(2), Twty("bn")):
        state = {**network.state_dict(), "attention.weight": torch.zeros(1)}
        with pytest.raises(InputError, match="of no known network"):
            checkpoint.load(saved(state, tmp_path / "a.pth"))


def same_for_tensorrt(path: Path) -> None:
    """Check that TensorRT's forms of an int8 graph compute the same, and keep the factors of its Resize in float32."""
    import onnx
    import onnxruntime as ort

    from sr_deploy.export.plans.graph import half_remainder, pairs_behind_relus, with_batch

    model = onnx.load(path)
    given = half_remainder(pairs_behind_relus(model))
    (resize,) = (node for node in given.graph.node if node.op_type == "Resize")
    (factors,) = (tensor for tensor in given.graph.initializer if tensor.name == resize.input[2])
    assert factors.data_type == onnx.TensorProto.FLOAT
    tiles = np.random.default_rng(0).random((3, 1, 40, 40), np.float32)
    plain = ort.SessionOptions()  # node by node: fused integer kernels round in another order
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected, found = (
        np.asarray(ort.InferenceSession(with_batch(m, None).SerializeToString(), plain).run(None, {"input": tiles})[0])
        for m in (model, given)
    )
    assert np.sqrt(np.mean(np.square(found - expected))) < 2e-3  # a few steps of float16 near one, and flips of rounding


@pytest.mark.slow
def test_msrresnet_goes_through_every_stage(photos: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from sr_deploy.compress.command import main as prune
    from sr_deploy.export.command import main as export
    from sr_deploy.gate.command import main as gate
    from sr_deploy.runtime.infer.command import main as infer

    path = saved({"params_ema": Basic(4, colors=1).state_dict()}, tmp_path / "msr.pth")
    assert evaluate([str(path), "--data", str(pictures), "--threads", "1", "--json", str(tmp_path / "e.json")]) == 0
    (row,) = json.loads((tmp_path / "e.json").read_text())["results"]
    assert row["scale"] == 4 and row["psnr_db"] > 5.0
    options = ["--shape", "1", "1", "40", "40", "--calib", str(photos), "--threads", "1"]
    assert export([str(path), "-o", str(tmp_path), *options]) == 0
    (tmp_path / "gates.toml").write_text(
        "[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90\nmax_weight_error_steps = 0\n"
        "[fp16]\nmin_agreement_db = 60\n[int8]\nmin_agreement_db = 35\nmax_weight_error_steps = 0.51\n"
    )
    engines = [str(tmp_path / f"msr_{precision}.onnx") for precision in ("fp32", "fp16", "int8")]
    checks = ["--data", str(photos), "--budget", str(tmp_path / "gates.toml"), "--threads", "1"]
    assert gate([*engines, "--reference", str(path), *checks]) == 0
    same_for_tensorrt(tmp_path / "msr_int8.onnx")
    Image.effect_noise((47, 44), 60).convert("RGB").save(tmp_path / "a.png")
    assert infer([str(tmp_path / "a.png"), "--engine", engines[2], "--threads", "1"]) == 0
    with Image.open(tmp_path / "a_x4.png") as found:
        assert found.size == (188, 176)
    pruned = tmp_path / "pruned.safetensors"
    assert (
        prune([str(path), "-o", str(pruned), "--sparsity", "0.5", "--finetune-steps", "0", "--shape", "1", "1", "40", "40"]) == 0
    )
    network, card = checkpoint.load(pruned)
    assert (
        card.arch == "msrresnet"
        and card.recipe["parent.source"] == "weights of BasicSR MSRResNet"
        and graph_apart(network, 1) < LEVELS
    )

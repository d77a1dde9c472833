"""Checkpoints of other repositories: recognised by their names, loaded without running any of them."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.train.networks import registry as networks
from sr_deploy.train.weights import checkpoint
from tests.conftest import Outside


class Layer(nn.Module):
    """One inner layer of pytorch-vdsr."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Net(nn.Module):
    """The network of pytorch-vdsr, by the names of its parts."""

    def __init__(self, width: int = 8, depth: int = 4) -> None:
        super().__init__()
        self.residual_layer = nn.Sequential(*(Layer(width) for _ in range(depth)))
        self.input = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.output = nn.Conv2d(width, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(self.residual_layer(torch.relu(self.input(x))))
        return x + out


ONE = torch.ones(1)


@pytest.fixture
def theirs() -> Net:
    """Return such a network."""
    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("wrapped", ["", "state_dict", "model", "module."])
def test_pytorch_vdsr_is_loaded_as_it_is(theirs: Net, tmp_path: Path, suffix: str, wrapped: str) -> None:
    path, state = tmp_path / f"model{suffix}", theirs.state_dict()
    if wrapped == "module.":
        state = {f"module.{name}": value for name, value in state.items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(dict(state), str(path))
    else:
        torch.save({"epoch": 50, wrapped: state} if wrapped in ("state_dict", "model") else state, path)
    network, card = checkpoint.load(path)
    x = torch.rand(1, 1, 12, 10)
    with torch.no_grad():
        assert torch.equal(network(x), theirs(x))
    assert (card.arch, card.widths, card.scales, card.upscale) == ("vdsr", (8, 8, 8, 8, 8, 1), (2, 3, 4), "before")
    assert card.recipe["source"] == "weights of pytorch-vdsr" and card.digest == card.recipe["source.digest"]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "generator."])
def test_prefixes_of_training_are_taken_off(theirs: Net, tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.5.0"}, tmp_path / "a.pth")
    x = torch.rand(1, 1, 12, 10)
    with torch.no_grad():
        assert torch.equal(checkpoint.load(tmp_path / "a.pth")[0](x), theirs(x))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "state_dict": state, "best_psnr": torch.tensor(31.0)},
        lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        lambda state: {"best": torch.tensor(31.0), "model": {"state_dict": state, "loss": torch.tensor(0.1)}},
        lambda state: {"weights_of_epoch_3": {"G": state}},
        lambda state: ({"state": {0: {"exp_avg": torch.zeros(8)}}}, 3, [{"ema": {"decay": 0.999, "shadow": state}}]),
        lambda state: {"n_averaged": torch.tensor(3), **{f"module._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {f"{part}.{name}": value for part in ("netG.module",) for name, value in state.items()} | {"netD.a": ONE},
        lambda state: {"params_ema": {name: value.numpy() for name, value in state.items()}},
        lambda state: {**state, "total_ops": ONE, "input.total_ops": ONE, "input.total_params": ONE},
        lambda state: {"state_dict": state, "best_psnr": np.float64(31.0), "counts": np.arange(3), "seed": np.int64(1)},
        lambda state: {"state_dict": state, "args": argparse.Namespace(lr=1e-4), "log": defaultdict(list), "place": Path("a")},
        lambda state: {
            "state_dict": {f"generator.{name}": value for name, value in state.items()}
            | {"discriminator.0.weight": torch.zeros(4, 1, 3, 3), "loss.vgg.mean": torch.zeros(1, 3, 1, 1)}
        },
    ],
    ids=[
        *("beside a tensor", "PyTorch's tutorial", "twice", "any name", "in lists", "averaged", "a GAN's", "arrays", "profiled"),
        *("numpy", "options", "beside other networks"),
    ],
)
def test_a_state_is_found_beside_other_things(theirs: Net, tmp_path: Path, wrap: Callable[[object], object]) -> None:
    torch.save(wrap(theirs.state_dict()), tmp_path / "a.pth")
    x = torch.rand(1, 1, 12, 10)
    with torch.no_grad():
        assert torch.equal(checkpoint.load(tmp_path / "a.pth")[0](x), theirs(x))


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"], ids=["numpy 1", "numpy 2"])
def test_numbers_of_either_numpy_are_read(theirs: Net, tmp_path: Path, core: bytes) -> None:
    torch.save({"state_dict": theirs.state_dict(), "best": np.float64(31.0), "log": np.arange(3.0)}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as source, zipfile.ZipFile(tmp_path / "a.pth", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = re.sub(rb"numpy\._?core", core, content)
                assert core + b".multiarray" in content
            target.writestr(name, content)
    assert checkpoint.load(tmp_path / "a.pth")[1].arch == "vdsr"


def test_a_sparse_tensor_takes_no_memory(tmp_path: Path) -> None:
    places = torch.zeros(2, 1, dtype=torch.int64)
    few = torch.sparse_coo_tensor(places, torch.ones(1), (10**7, 10**7), check_invariants=True)
    torch.save({"embedding": few}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"1 tensors \(embedding, \.\.\.\) of no known network"):
        checkpoint.load(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.ckpt", "a.PTH", "a.pth.tar", "a.Pt", "a.bin", "a", "a.SAFETENSORS"])
def test_a_checkpoint_may_be_called_as_others_call_it(theirs: Net, tmp_path: Path, name: str) -> None:
    if name == "a.SAFETENSORS":
        safetensors.torch.save_file(dict(theirs.state_dict()), str(tmp_path / name))
    else:
        torch.save({"state_dict": theirs.state_dict()}, tmp_path / name)
    assert checkpoint.load(tmp_path / name)[1].arch == "vdsr"


def test_files_of_other_layouts_are_taken(outside: Outside) -> None:
    folder = outside("../cases/checkpoints")
    for name in ("orig_mod", "tensor_beside", "model_state_dict"):
        network, card = checkpoint.load(folder / f"{name}.pth")
        assert card.arch == "edsr" and networks.weight_count(network) == 5_699 and card.scales == (2,)


@pytest.mark.parametrize(
    "whole",
    [
        lambda network: network,
        lambda network: {"epoch": 50, "model": network},
        lambda network: {"epoch": 50, "net": network, "best": Fraction(31)},
        lambda network: {"state_dict": network.state_dict(), "best": Fraction(31)},
        lambda network: {"nets": [{"G": network}], "optimizer": torch.optim.SGD(network.parameters())},
        lambda network: (3, nn.DataParallel(network)),
    ],
    ids=["alone", "model", "net", "state beside an object", "deep inside", "in a tuple"],
)
def test_a_pickled_module_is_refused_with_the_way_out(theirs: Net, tmp_path: Path, whole: Callable[[Net], object]) -> None:
    torch.save(whole(theirs), tmp_path / "whole.pth")
    with pytest.raises(InputError, match="holds a pickled module or other objects, and loading one runs code") as caught:
        checkpoint.load(tmp_path / "whole.pth")
    text = str(caught.value)
    assert "\n" not in text
    code = text.partition("into a state: ")[2]
    exec(code.replace("'state.pth'", repr(str(tmp_path / "state.pth"))), {})
    with torch.no_grad():
        assert torch.equal(checkpoint.load(tmp_path / "state.pth")[0](torch.ones(1, 1, 5, 5)), theirs(torch.ones(1, 1, 5, 5)))


def test_what_pickle_wrote_gets_a_way_out_that_runs(theirs: Net, tmp_path: Path) -> None:
    (tmp_path / "it's.pth").write_bytes(pickle.dumps({"epoch": 3, "net": theirs}))
    with pytest.raises(InputError, match="turn it into a state: ") as caught:
        checkpoint.load(tmp_path / "it's.pth")
    exec(str(caught.value).partition("into a state: ")[2].replace("'state.pth'", repr(str(tmp_path / "state.pth"))), {})
    assert checkpoint.load(tmp_path / "state.pth")[1].arch == "vdsr"


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"hello"])
def test_another_file_is_told_without_words_about_trust(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth: not a PyTorch checkpoint \(neither a zip archive nor a pickle\); name a .pt"):
        checkpoint.load(tmp_path / "a.pth")


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth"):
        checkpoint.load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"a.weight": torch.zeros(1), "b": torch.zeros(2)},
            r"2 tensors \(a.weight, b, ...\) of no known network; known: those of this project, "
            "pytorch-vdsr, EDSR-PyTorch, BasicSR EDSR, BasicSR MSRResNet, leftthomas/SRGAN, pytorch-SRResNet",
        ),
        (
            {"best": ONE, "net": {"body.0.weight": torch.zeros(8, 3, 5, 5), "body.2.weight": torch.zeros(3, 8, 5, 5)}},
            r"2 tensors \(body.0.weight, body.2.weight, ...\) of no known network",
        ),
        (
            {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.bias": ONE, "body.2.weight": torch.zeros(3, 8, 3, 3)},
            "3 tensors .* of no known network",
        ),
        ({"layers.0.relative_position_index": torch.zeros(4, 4, dtype=torch.int64)}, "1 tensors .* of no known network"),
        ({"epoch": 3}, "holds no tensors by name"),
        ([torch.zeros(1)], "holds no tensors by name"),
        (
            {"input.weight": torch.zeros(8, 1, 3, 3), "output.weight": torch.zeros(1, 9, 3, 3)}
            | {"residual_layer.0.conv.weight": torch.zeros(8, 8, 3, 3)},
            "looks like pytorch-vdsr, but output.weight is 1x9x3x3, 1x8x3x3 is needed",
        ),
    ],
)
def test_what_is_unknown_is_said_with_what_was_found(tmp_path: Path, state: object, words: str) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=words):
        checkpoint.load(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02no pickle", b"text", bytes(range(255, 100, -1))])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pth: ") as caught:
        checkpoint.load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert content.startswith(b"\x80") or "pickled" not in str(caught.value)  # as a pickle begins


def test_it_is_evaluated_and_exported(theirs: Net, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = pytest.importorskip("sr_deploy.export.command").main
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    assert evaluate([str(tmp_path / "model.pth"), "--data", str(photos), "--threads", "1"]) == 0
    options = ["--shape", "1", "1", "32", "32", "--calib", str(photos), "--threads", "1", "--precision", "fp32"]
    assert export([str(tmp_path / "model.pth"), "-o", str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "model_fp32.onnx").is_file()
    gate = pytest.importorskip("sr_deploy.gate.command").main
    (tmp_path / "gates.toml").write_text("[fp32]\nmax_drop_db = 0.001\nmax_weight_error_steps = 0\n")
    common = ["--reference", str(tmp_path / "model.pth"), "--data", str(photos), "--budget", str(tmp_path / "gates.toml")]
    assert gate([str(tmp_path / "out" / "model_fp32.onnx"), *common, "--threads", "1"]) == 0


def test_a_file_that_holds_itself_is_told(tmp_path: Path) -> None:
    endless: dict[str, object] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds no tensors by name"):
        checkpoint.load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(8, 8, 3, 3, dtype=torch.int8),
        torch.zeros(8, 8, 3, 3, dtype=torch.complex64),
        torch.zeros(8, 8).to_sparse(),
        torch.empty(8, 8, 3, 3, device="meta"),
    ],
    ids=["int8", "complex", "sparse", "meta"],
)
def test_a_tensor_of_another_kind_is_named(value: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"input.weight": torch.zeros(8, 1, 3, 3), "residual_layer.0.conv.weight": value}, tmp_path / "a.pth")
    with pytest.raises(
        InputError, match=r"a\.pth: residual_layer\.0\.conv\.weight is .*; dense floating point tensors are needed"
    ):
        checkpoint.load(tmp_path / "a.pth")

"""Kernels that are wider in training: equal to what they replace, multiplied out when saved, and trained through the product."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.train.command import main
from sr_deploy.train.networks.expansion import BRANCH, ExpandedConv2d, collapse_, expand_
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, convolutions, widths_of
from sr_deploy.train.weights import checkpoint

PHOTOS = Path(__file__).resolve().parents[2] / "pictures"
TINY = ["--arch", "plain", "--blocks", "1", "--width", "4", "--batch-size", "2", "--patch", "24", "--threads", "1"]


def expanded(times: int = 4) -> tuple[Network, Network]:
    torch.manual_seed(0)
    network = build("plain", config={"blocks": 2, "features": 8})
    wide = copy.deepcopy(network)
    expand_(wide, times)
    return network, wide


@pytest.mark.parametrize("times", [1, 4])
def test_product_and_identity_make_the_kernel(times: int) -> None:
    network, wide = expanded(times)
    for name, layer in convolutions(wide).items():
        assert isinstance(layer, ExpandedConv2d)
        product = torch.einsum("om,mikl->oikl", layer.narrow, layer.wide)
        square = layer.in_channels == layer.out_channels
        identity = nn.init.dirac_(torch.empty_like(product)) if square else torch.zeros_like(product)
        assert layer.wide.shape[0] == times * layer.out_channels
        assert torch.allclose(identity + BRANCH * product, convolutions(network)[name].weight, atol=1e-6)


def test_an_expanded_network_computes_the_same_picture() -> None:
    network, wide = expanded()
    x = torch.rand(1, 1, 9, 9)
    assert torch.allclose(wide(x), network(x), atol=1e-5) and widths_of(wide) == widths_of(network)


def test_a_collapsed_network_is_a_plain_one_again() -> None:
    network, wide = expanded()
    x, before = torch.rand(1, 1, 9, 9), wide(torch.zeros(1, 1, 9, 9))
    result = collapse_(copy.deepcopy(wide))
    assert result.state_dict().keys() == network.state_dict().keys()
    assert torch.allclose(result(x), wide(x), atol=1e-6)
    assert torch.equal(wide(torch.zeros(1, 1, 9, 9)), before)  # a copy was multiplied out, this one trains on


def test_gradients_reach_both_factors_and_the_kernel_stays_float32_under_autocast() -> None:
    _, wide = expanded()
    with torch.autocast("cpu", torch.bfloat16):
        wide(torch.rand(1, 1, 9, 9)).sum().backward()
        layers = [layer for layer in convolutions(wide).values() if isinstance(layer, ExpandedConv2d)]
        assert len(layers) == 4 and all(layer.kernel().dtype == torch.float32 for layer in layers)
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for name, p in wide.named_parameters() if "bias" not in name)


def test_an_expanded_network_can_be_sent_to_another_process() -> None:
    _, wide = expanded()
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(pickle.loads(pickle.dumps(wide))(x), wide(x))


@pytest.mark.parametrize("arch", ["plain", "vdsr"])
def test_what_is_saved_is_multiplied_out(tmp_path: Path, arch: str) -> None:
    path = tmp_path / "net.safetensors"
    size = TINY[2:] if arch == "plain" else ["--width", "4", *TINY[6:]]
    assert main([str(PHOTOS), "-o", str(path), "--arch", arch, *size, "--steps", "2", "--expand", "2"]) == 0
    network, card = checkpoint.load(path)
    assert not any(isinstance(layer, ExpandedConv2d) for layer in convolutions(network).values())
    assert card.recipe["train.expand"] == "2"


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    run = [*TINY, "--schedule", "step", "--ema", "0.9"]
    assert main([str(PHOTOS), "-o", str(whole), *run, "--steps", "4"]) == 0
    assert main([str(PHOTOS), "-o", str(broken), *run, "--steps", "2"]) == 0
    assert main([str(PHOTOS), "-o", str(broken), *run, "--steps", "4", "--resume"]) == 0
    a, b = (checkpoint.tensors(path) for path in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_cannot_be_resumed_with_another_expansion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    assert main([str(PHOTOS), "-o", str(path), *TINY, "--steps", "1"]) == 0
    assert main([str(PHOTOS), "-o", str(path), *TINY, "--steps", "2", "--resume", "--expand", "2"]) == 2
    assert "was trained with" in capsys.readouterr().err


def test_an_expansion_beyond_reason_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(PHOTOS), "-o", str(tmp_path / "n.safetensors"), *TINY, "--steps", "1", "--expand", "1000"]) == 2
    assert "--expand 1000 is not in 1 to 64" in capsys.readouterr().err

"""An SRResNet that begins as an EDSR computes the same picture, in evaluation and, nearly, in training mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sr_deploy.train.networks.edsr import EDSR, EDSRConfig, edsr_widths
from sr_deploy.train.networks.srresnet import SRResNet, SRResNetConfig, srresnet_widths
from sr_deploy.train.networks.srresnet_from_edsr import is_edsr, settle_norms_, srresnet_state
from sr_deploy.train.weights.warm_start import warm_start_


def pair(scale: int = 4, norm: int = 1) -> tuple[EDSR, SRResNet]:
    torch.manual_seed(3)
    edsr = EDSR(EDSRConfig(edsr_widths(blocks=2, features=8, scale=scale), scale)).eval()
    srresnet = SRResNet(SRResNetConfig(srresnet_widths(blocks=2, features=8, scale=scale), scale, norm=norm)).eval()
    assert is_edsr(edsr.state_dict()) and not is_edsr(srresnet.state_dict())
    warm_start_(srresnet, srresnet_state(edsr.state_dict(), srresnet), source="edsr")
    return edsr, srresnet


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("norm", [0, 1])
def test_it_computes_what_the_edsr_computes(scale: int, norm: int) -> None:
    edsr, srresnet = pair(scale, norm)
    x = torch.rand(1, 1, 12, 11)
    with torch.no_grad():
        assert torch.allclose(edsr(x), srresnet(x), atol=1e-5)  # float32 sums in another order
        assert torch.allclose(edsr(x), srresnet.folded()(x), atol=1e-5)


def test_residual_scaling_goes_into_the_convolutions_that_end_blocks() -> None:
    torch.manual_seed(0)
    widths = edsr_widths(blocks=2, features=8, scale=2)
    edsr = EDSR(EDSRConfig(widths, 2, res_scale=0.1)).eval()
    srresnet = SRResNet(SRResNetConfig(srresnet_widths(blocks=2, features=8, scale=2), 2)).eval()
    warm_start_(srresnet, srresnet_state(edsr.state_dict(), srresnet, res_scale=0.1), source="edsr")
    x = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        assert torch.allclose(edsr(x), srresnet(x), atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (["--res-scale", "0.1"], [], "scales its residuals by 0.1, this network by 1; give --res-scale 0.1"),
        (["--color", "rgb"], [], "takes rgb, this network does not; give --color rgb"),
        ([], ["--color", "rgb"], "takes y, this network does not; give --color y"),
    ],
)
def test_a_start_that_would_compute_something_else_is_refused(
    first: list[str], second: list[str], words: str, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sr_deploy.train.command import main

    size = ["--blocks", "1", "--width", "8", "--patch", "32", "--scale", "2", "--arch", "edsr", "--threads", "1"]
    common = [str(photos), "--steps", "1", "--batch-size", "2", *size]
    assert main([*common, *first, "-o", str(tmp_path / "a.safetensors")]) == 0
    assert main([*common, *second, "-o", str(tmp_path / "b.safetensors"), "--init-from", str(tmp_path / "a.safetensors")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "b.safetensors").exists()


def test_a_mean_shift_goes_into_biases_exact_away_from_the_border() -> None:
    torch.manual_seed(0)
    edsr = EDSR(EDSRConfig(edsr_widths(blocks=1, features=8, scale=2, colors=3), 2, colors=3)).eval()
    srresnet = SRResNet(SRResNetConfig(srresnet_widths(blocks=1, features=8, scale=2, colors=3), 2, colors=3)).eval()
    warm_start_(srresnet, srresnet_state(edsr.state_dict(), srresnet), source="edsr")
    x, reach = torch.rand(1, 3, 24, 24), 2 * edsr.halo()
    with torch.no_grad():
        difference = (edsr(x) - srresnet(x)).abs()
    assert float(difference[..., reach:-reach, reach:-reach].max()) < 1e-5 and float(difference.max()) > 1e-3


def test_settled_norms_keep_the_function_and_know_the_data() -> None:
    edsr, srresnet = pair()
    batches = [torch.rand(4, 1, 12, 12) for _ in range(3)]
    settle_norms_(srresnet, batches)
    x = torch.cat(batches)
    with torch.no_grad():
        expected = edsr(x)
        assert torch.allclose(srresnet(x), expected, atol=1e-5)
        trained = srresnet.train()(x)  # the batch is all of the data: its statistics are those that were stored
    assert torch.allclose(trained, expected, atol=1e-3)  # the variance of a batch is divided by n, not n - 1: nearly the same


def test_without_settling_training_mode_begins_elsewhere() -> None:
    edsr, srresnet = pair()
    x = torch.rand(12, 1, 12, 12)
    with torch.no_grad():
        assert float((srresnet.train()(x) - edsr(x)).abs().max()) > 0.05


def test_a_trained_edsr_is_taken_over_by_the_command(tmp_path: Path, photos: Path) -> None:
    from sr_deploy.train.command import main
    from sr_deploy.train.weights import checkpoint

    common = [str(photos), "--steps", "1", "--batch-size", "2", "--blocks", "2", "--width", "8", "--patch", "32", "--scale", "4"]
    assert main([*common, "--arch", "edsr", "-o", str(tmp_path / "e.safetensors")]) == 0
    small = ["--lr", "1e-9", "--init-from", str(tmp_path / "e.safetensors")]
    assert main([*common, "--arch", "srresnet", *small, "-o", str(tmp_path / "s.safetensors")]) == 0
    edsr, _ = checkpoint.load(tmp_path / "e.safetensors")
    srresnet, card = checkpoint.load(tmp_path / "s.safetensors")
    assert card.arch == "srresnet" and any(isinstance(m, nn.BatchNorm2d) for m in srresnet.modules())
    x = torch.from_numpy(np.random.default_rng(0).random((1, 1, 16, 16), np.float32))
    with torch.no_grad():  # one step moved the running statistics by a tenth towards its batch, so not to the last bit
        assert float((edsr(x) - srresnet(x)).abs().mean()) < 0.01

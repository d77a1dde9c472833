from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.errors import InputError
from sr_deploy.train.command import main
from sr_deploy.train.networks.registry import convolutions
from sr_deploy.train.weights.warm_start import warm_start_
from tests.helpers.networks import vdsr


def grown() -> tuple[nn.Module, nn.Module, list[str]]:
    narrow, wide = vdsr(4, 4, 1), vdsr(8, 6, 1, seed=1)
    return narrow, wide, warm_start_(wide, narrow.state_dict(), source="a.safetensors")


def test_equal_widths_are_copied_without_a_note() -> None:
    target, origin = vdsr(4, 4, 1), vdsr(4, 4, 1, seed=1)
    assert warm_start_(target, origin.state_dict(), source="x") == []
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), origin.parameters(), strict=True))


def test_growth_keeps_the_function() -> None:
    narrow, wide, _ = grown()
    x = torch.rand(2, 1, 16, 16)
    assert torch.allclose(narrow(x), wide(x), atol=1e-6)  # zeros added in another order of float32 sums


def test_growth_is_noted() -> None:
    _, _, notes = grown()
    assert notes == [
        "conv1.weight: grown from (4, 1, 3, 3) to (8, 1, 3, 3)",
        "conv2.weight: grown from (4, 4, 3, 3) to (6, 8, 3, 3)",
        "conv3.weight: grown from (1, 4, 3, 3) to (1, 6, 3, 3)",
    ]


def test_new_channels_learn_from_the_first_step() -> None:
    _, wide, _ = grown()
    convs = convolutions(wide)
    x = torch.rand(4, 1, 16, 16)
    for _ in range(2):
        wide.zero_grad()
        (wide(x) - torch.rand_like(x)).square().sum().backward()
        reading_new = [convs["conv2"].weight[:4, 4:], convs["conv3"].weight[:, 4:]]
        gradients = [convs["conv2"].weight.grad, convs["conv3"].weight.grad, convs["conv1"].weight.grad]
        assert all(g is not None for g in gradients)
        with torch.no_grad():
            if all(bool((w == 0).all()) for w in reading_new):  # before the first step: what reads the new channels learns
                assert convs["conv2"].weight.grad is not None
                assert convs["conv3"].weight.grad is not None
                assert convs["conv2"].weight.grad[:4, 4:].abs().max() > 0
                assert convs["conv3"].weight.grad[:, 4:].abs().max() > 0
            else:  # after it: the new channels themselves do
                assert convs["conv1"].weight.grad is not None
                assert convs["conv1"].weight.grad[4:].abs().amax((1, 2, 3)).min() > 0
            for parameter in wide.parameters():
                assert parameter.grad is not None
                parameter.sub_(1e-3 * parameter.grad)


def test_tensors_that_are_not_used_are_named() -> None:
    state = {**vdsr(4, 1).state_dict(), "bn.weight": torch.zeros(3)}
    notes = warm_start_(vdsr(4, 1), state, source="a.safetensors")
    assert notes == ["bn.weight: of a.safetensors, not used"]


def test_tensors_that_are_missing_are_named() -> None:
    origin = vdsr(4, 4, 1)
    target = vdsr(4, 4, 4, 1)
    fresh = target.state_dict()["conv4.weight"].clone()
    notes = warm_start_(target, origin.state_dict(), source="a.safetensors")
    assert "conv4.weight: not in a.safetensors, starts fresh" in notes
    assert torch.equal(target.state_dict()["conv4.weight"], fresh)


def test_a_wider_checkpoint_does_not_fit() -> None:
    target = vdsr(4, 4, 1)
    state = {**vdsr(8, 8, 1).state_dict(), "conv3.weight": torch.zeros(1, 4, 3, 3)}
    notes = warm_start_(target, state, source="x")
    assert notes == [
        "conv1.weight: (8, 1, 3, 3) does not fit into (4, 1, 3, 3), starts fresh",
        "conv2.weight: (8, 8, 3, 3) does not fit into (4, 4, 3, 3), starts fresh",
    ]


def test_nothing_that_fits_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^a\.safetensors: none of its 2 tensors fits this network; name a checkpoint of the same"
    ):
        warm_start_(vdsr(4, 1), {"x": torch.zeros(1), "y": torch.zeros(2)}, source="a.safetensors")


def test_a_kernel_does_not_grow() -> None:
    network = nn.Conv2d(2, 4, 9)
    before = network.weight.clone()
    notes = warm_start_(network, {"weight": torch.ones(4, 2, 3, 3), "bias": torch.ones(4)}, source="a")
    assert torch.equal(network.weight, before) and "weight: (4, 2, 3, 3) does not fit into (4, 2, 9, 9), starts fresh" in notes


def test_sub_pixels_of_another_scale_are_not_taken(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = [
        "--arch",
        "edsr",
        "--blocks",
        "1",
        "--width",
        "8",
        "--patch",
        "24",
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--threads",
        "1",
    ]
    assert main([str(photos), "-o", str(tmp_path / "x2.safetensors"), "--scale", "2", *size]) == 0
    start = ["--init-from", str(tmp_path / "x2.safetensors")]
    assert main([str(photos), "-o", str(tmp_path / "x3.safetensors"), "--scale", "3", *size, *start]) == 0
    notes = capsys.readouterr().err
    assert "up.0.weight: of " in notes and "makes other sub-pixels, not used" in notes and "grown" not in notes
    assert main([str(photos), "-o", str(tmp_path / "x4.safetensors"), "--scale", "4", *size, *start]) == 0
    assert "not used" not in capsys.readouterr().err  # the first doubling of x4 is that of x2
    assert main([str(photos), "-o", str(tmp_path / "x3.safetensors"), "--scale", "3", *size, *start, "--resume"]) == 2
    assert "a resumed run has its weights already" in capsys.readouterr().err

"""``sr-train --arch mdsr``: which network the options make, and that it is trained, measured and continued."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sr_deploy.train.command import main
from sr_deploy.train.networks.registry import build, card_of, convolutions
from sr_deploy.train.weights import checkpoint

SMALL = ("--blocks", "1", "--width", "8", "--batch-size", "2", "--device", "cpu", "--steps", "1")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", "2", "5"], "--scale 5: mdsr serves 2, 3, 4; choose among them"),
        (["--preset", "huge"], "--preset huge: not known for mdsr"),
        (["--res-scale", "2"], "MDSR: residual scaling 2.0 is not in (0, 1]"),
    ],
)
def test_a_wrong_option_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([str(photos), "-o", str(tmp_path / "a.safetensors"), "--arch", "mdsr", "--steps", "1", *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_one_scale_is_trained_by_the_papers_recipe(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    options = ["--arch", "mdsr", "--scale", "3", "--patch", "36", "--val", str(photos), *SMALL]
    assert main([str(photos), "-o", str(output), *options]) == 0
    network, card = checkpoint.load(output)
    assert (card.arch, card.scales, card.default_scale, card.upscale) == ("mdsr", (3,), 3, "inside")
    assert card.config == {"x2": 0, "x3": 1, "x4": 0, "colors": 1, "res_scale": 1.0}
    assert (card.recipe["train.optimizer"], card.recipe["train.lr"], card.recipe["train.loss"]) == ("adam", "0.0001", "l1")
    assert card.recipe["train.schedule"] == "halve" and network(torch.rand(1, 1, 5, 7)).shape == (1, 1, 15, 21)


def test_several_scales_are_trained_in_one_network_and_continued(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    options = ["--arch", "mdsr", "--patch", "12", "--val", str(photos), *SMALL[:-1]]
    assert main([str(photos), "-o", str(output), *options, "12"]) == 0
    network, card = checkpoint.load(output)
    assert card.scales == (2, 3, 4) and [card.config[f"x{scale}"] for scale in card.scales] == [1, 1, 1]
    torch.manual_seed(0)
    fresh = convolutions(build("mdsr", config={"blocks": 1, "features": 8}))
    for scale in card.scales:  # twelve steps of a drawn scale reach all three
        name = f"pre.x{scale}.0.conv1"
        assert not torch.equal(convolutions(network)[name].weight, fresh[name].weight)
        assert network.at_scale(scale)(torch.rand(1, 1, 5, 7)).shape == (1, 1, 5 * scale, 7 * scale)
    assert main([str(photos), "-o", str(output), *options, "14", "--resume"]) == 0
    assert checkpoint.read_card(output).recipe["train.done_steps"] == "14"


def test_it_starts_from_an_edsr(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edsr = build("edsr", config={"blocks": 1, "features": 8})
    card = checkpoint.save(tmp_path / "e.safetensors", edsr, card_of(edsr, scales=(2,), default_scale=2))
    options = ["--arch", "mdsr", "--scale", "4", "--patch", "16", *SMALL, "--init-from", str(tmp_path / "e.safetensors")]
    assert main([str(photos), "-o", str(tmp_path / "m.safetensors"), *options, "--lr", "1e-9"]) == 0
    notes = capsys.readouterr().err
    assert "pre.x4.0.conv1.weight: not in" in notes and "up.x4.1.weight: not in" in notes and "up.0.weight: of" in notes
    assert "body" not in notes and "head" not in notes and "tail" not in notes
    network, found = checkpoint.load(tmp_path / "m.safetensors")
    ours, theirs = (convolutions(module)["body.0.conv1"].weight for module in (network, edsr))
    assert torch.allclose(ours, theirs, atol=1e-6) and found.parent_digest == card.digest


def test_the_card_names_only_scales_that_have_a_branch() -> None:
    network = build("mdsr", config={"blocks": 1, "features": 8, "x2": 0})
    card = card_of(network, scales=(2, 3, 4), default_scale=2)
    assert (card.scales, card.default_scale, card.config) == ((3, 4), 3, network.facts)


@pytest.mark.slow
def test_two_processes_train_branches_that_a_step_leaves_out(photos: Path, tmp_path: Path) -> None:
    for count, size in ((1, "4"), (2, "2")):
        options = ["--arch", "mdsr", "--scale", "2", "4", "--patch", "6", "--blocks", "1", "--width", "4", "--steps", "6"]
        options += [
            "--device",
            "cpu",
            "--devices",
            str(count),
            "--batch-size",
            size,
            "-o",
            str(tmp_path / f"{count}.safetensors"),
        ]
        command = [sys.executable, "-m", "sr_deploy.train.command", str(photos), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (checkpoint.tensors(tmp_path / f"{count}.safetensors") for count in (1, 2))
    # The same sums of float32, added up in another order: a few units of the last place (6e-8) of weights below 1.
    assert all(torch.allclose(one[name], two[name], rtol=0.0, atol=1e-6) for name in one)

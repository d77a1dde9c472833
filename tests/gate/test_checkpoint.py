"""Checkpoints in ``sr-eval`` and ``sr-gate``: the same figures as their fp32 graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from sr_deploy.gate.command import main as gate
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny

PICTURES = Path(__file__).resolve().parents[1] / "pictures"


def checkpoint_of(path: Path, weights: tiny.Weights) -> Path:
    """Write a VDSR checkpoint with the given weights."""
    network = build("vdsr", tuple(len(w) for w in weights))
    network.load_state_dict({f"conv{n}.weight": torch.from_numpy(w) for n, w in enumerate(weights, start=1)})
    checkpoint.save(path, network, card_of(network, scales=(2, 3, 4), default_scale=2))
    return path


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of the fixture ``reference``."""
    return checkpoint_of(tmp_path_factory.mktemp("sharp") / "sharp.safetensors", tiny.sharpening_weights(4))


def test_a_checkpoint_on_whole_pictures_equals_its_graph_in_tiles(
    sharp: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate([str(sharp), str(reference), "--data", str(PICTURES), "--threads", "1", "--json", "-"]) == 0
    ours, theirs = json.loads(capsys.readouterr().out)["results"]
    # both round the same sums to grey levels; a few pixels may fall to the other side
    assert ours["psnr_db"] == pytest.approx(theirs["psnr_db"], abs=0.01)
    assert ours["ssim"] == pytest.approx(theirs["ssim"], abs=1e-4)


def test_a_checkpoint_runs_the_fixed_protocol(
    sharp: Path, reference: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(sharp), str(reference), "--data", str(data), "--protocol", "fixed", "--threads", "1", "--json", "-"]
    assert evaluate(arguments) == 0
    ours, theirs = json.loads(capsys.readouterr().out)["results"]
    assert ours["psnr_db"] == pytest.approx(theirs["psnr_db"], abs=0.01)


def test_a_checkpoint_is_a_reference(sharp: Path, reference: Path, data: Path, budgets: Path) -> None:
    options = ["--reference", str(sharp), "--data", str(data), "--budget", str(budgets), "--threads", "1"]
    assert gate([str(reference), *options]) == 0


def test_another_checkpoint_of_the_same_shape_fails(tmp_path: Path, reference: Path, data: Path, budgets: Path) -> None:
    other = checkpoint_of(tmp_path / "other.safetensors", tiny.sharpening_weights(4, strength=0.05))
    options = ["--reference", str(other), "--data", str(data), "--budget", str(budgets), "--threads", "1"]
    assert gate([str(reference), *options]) == 1


def test_a_changed_checkpoint_is_refused_by_its_digest(
    tmp_path: Path, sharp: Path, reference: Path, data: Path, budgets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(sharp.read_bytes())
    content[-2] ^= 0x80
    (tmp_path / "m.safetensors").write_bytes(content)
    options = ["--reference", str(tmp_path / "m.safetensors"), "--data", str(data), "--budget", str(budgets)]
    assert gate([str(reference), *options]) == 2
    assert "changed after it was made" in capsys.readouterr().err


def test_an_engine_that_takes_another_shape_than_the_checkpoint_is_refused(
    tmp_path: Path, sharp: Path, data: Path, budgets: Path
) -> None:
    wider = tiny.write(tmp_path / "m_fp32.onnx", tiny.random_weights((8, 8, 9, 1)), SHAPE)
    options = ["--reference", str(sharp), "--data", str(data), "--budget", str(budgets)]
    assert gate([str(wider), *options]) == 2

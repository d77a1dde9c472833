"""The accuracy guard and the gate agree: what one passes on some photographs, the other passes on them with the same budget."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from sr_deploy.calib_data import folder
from sr_deploy.export.command import main as export
from sr_deploy.gate.command import main as gate
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.gate.test_checkpoint import checkpoint_of
from tests.runtime import tiny_onnx as tiny

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Case:
    """A network with six convolutions, photographs, and where its graphs go."""

    network: Path
    photos: Path
    select: Path
    place: Path

    def export(self, *options: str) -> int:
        """Run ``sr-export``."""
        fixed = ["-o", str(self.place), "--shape", "1", "1", "32", "32", "--calib", str(self.photos), "--threads", "1"]
        guarded = ["--select", str(self.select), "--precision", "fp32", "int8", "--method", "mse"]
        return export([str(self.network), *fixed, *guarded, *options])

    def gate(self, budget: Path) -> int:
        """Run ``sr-gate`` on the photographs that the guard has measured on."""
        engine, reference, report = (
            str(self.place / name) for name in (f"{self.network.stem}_int8.onnx", f"{self.network.stem}_fp32.onnx", "gate.json")
        )
        return gate(
            [
                engine,
                "--reference",
                reference,
                "--data",
                str(self.select),
                "--budget",
                str(budget),
                "--json",
                report,
                "--threads",
                "1",
            ]
        )

    def gated(self, scale: int) -> dict[str, float]:
        """Return what the gate has measured at a scale."""
        results = json.loads((self.place / "gate.json").read_text())["results"]
        found: dict[str, float] = next(result for result in results if result["scale"] == scale)
        return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Case:
    """Return a network that was exported with an allowance for any drop."""
    place = tmp_path_factory.mktemp("agreement")
    network = checkpoint_of(place / "six.safetensors", tiny.sharpening_weights(6, strength=0.25))
    (place / "select").mkdir()
    for name in ("camera.png", "rocket.jpg"):
        with Image.open(folder("select") / name) as image:
            image.crop((200, 100, 272, 164)).save(place / "select" / f"{Path(name).stem}.png")
    return Case(network, photos, place / "select", place)


def budget(case: Case, **limits: float) -> Path:
    path = case.place / "gates.toml"
    path.write_text("[int8]\nmax_drop_db = 50\n" + "".join(f"{name} = {value}\n" for name, value in limits.items()))
    return path


def test_both_measure_the_same(case: Case) -> None:
    assert case.export("--max-drop", "50") == 0 and case.gate(budget(case)) == 0
    measured = json.loads((case.place / "six_int8.guard.json").read_text())["answer"]["figures"]
    for scale in SCALES:
        gated = case.gated(scale)
        assert measured[str(scale)] == pytest.approx({name: gated[name] for name in measured[str(scale)]}, abs=1e-6)


def test_both_measure_an_rgb_network_that_enlarges_inside_the_same(case: Case, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build("srresnet", config={"blocks": 1, "features": 8, "scale": 2, "colors": 3}).eval()
    checkpoint.save(tmp_path / "rgb.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    rgb = replace(case, network=tmp_path / "rgb.safetensors", place=tmp_path)
    assert rgb.export("--shape", "1", "3", "32", "32", "--max-drop", "50") == 0 and rgb.gate(budget(rgb)) == 0
    measured = json.loads((tmp_path / "rgb_int8.guard.json").read_text())["answer"]["figures"]["2"]
    assert measured == pytest.approx({name: rgb.gated(2)[name] for name in measured}, abs=1e-6)
    assert measured["worst_shift_levels"] != 0.0


@pytest.mark.parametrize("limit", ["max_shift_levels", "min_agreement_db", "max_drop_worst_picture_db"])
def test_what_the_guard_passes_the_gate_passes(case: Case, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.export("--max-drop", "50") == 0 and case.gate(budget(case)) == 0
    found = [case.gated(scale) for scale in SCALES]
    tight = {
        "max_shift_levels": 0.8 * max(abs(figures["worst_shift_levels"]) for figures in found),
        "min_agreement_db": 1.0 + min(figures["worst_agreement_db"] for figures in found),
        "max_drop_worst_picture_db": max(figures["worst_drop_db"] for figures in found) - 0.001,
    }[limit]
    both = budget(case, **{limit: max(tight, 0.0)})
    assert case.gate(both) == 1  # the mean drop alone says nothing of this limit
    capsys.readouterr()
    assert case.export("--max-drop", "50", "--budget", str(both)) == 0
    assert " to float, whole pictures: used x2 " in capsys.readouterr().out
    assert case.gate(both) == 0
    assert read_card(case.place / "six_int8.onnx").guard["given_back"] != []
    capsys.readouterr()
    assert case.export("--max-drop", "50", "--budget", str(both)) == 0
    assert "six_int8.guard.json: reused" in (shown := capsys.readouterr().out) and "whole pictures" not in shown
    assert case.export("--max-drop", "50") == 0  # what another budget asked for is not kept
    assert read_card(case.place / "six_int8.onnx").guard["given_back"] == []


def test_what_nothing_can_keep_is_no_graph(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.export("--max-drop", "50", "--budget", str(budget(case, min_psnr_db=90.0))) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "six_int8: no choice of layers keeps the budget on whole pictures; the best: x2: PSNR " in error
    assert "the budget is at least 90 dB" in error and not (case.place / "six_int8.onnx").exists()


def test_a_budget_alone_guards(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.export("--budget", str(budget(case))) == 0
    assert read_card(case.place / "six_int8.onnx").guard["max_drop_db"] == 50.0
    (case.place / "other.toml").write_text("[int8]\nmin_agreement_db = 20\n")
    assert case.export("--budget", str(case.place / "other.toml")) == 2
    assert "other.toml: has no max_drop_db for six_int8 at x2; add it, or give --max-drop" in capsys.readouterr().err
    (case.place / "other.toml").write_text("[int8]\nmax = 1\n")
    assert case.export("--budget", str(case.place / "other.toml")) == 2
    assert "'max' is no budget" in capsys.readouterr().err

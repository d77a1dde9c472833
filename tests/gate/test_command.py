"""``sr-gate`` lets good engines pass and stops every kind of bad one; without torch and onnx."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sr_deploy.gate.command import main
from sr_deploy.gate.eval import EvalOptions, evaluate
from sr_deploy.gate.models import open_model
from sr_deploy.runtime.backends import load as loading
from sr_deploy.runtime.backends.engine import Engine
from tests.gate.conftest import SHAPE
from tests.helpers.cli import error_lines
from tests.runtime import tiny_onnx as tiny

DEPTH = 4
Gate = Callable[..., int]


@pytest.fixture
def gate(reference: Path, data: Path, budgets: Path) -> Gate:
    """Return ``sr-gate`` at x2 on engines, with the fixtures' reference, pictures and budgets unless named again."""

    def run(*engines: Path, more: list[str] | None = None, scale: Sequence[str] = ("--scale", "2"), **other: Path) -> int:
        options = {"reference": reference, "data": data, "budget": budgets, **other}
        named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return main([*map(str, engines), *named, "--threads", "1", *scale, *(more or [])])

    return run


def engine(path: Path, weights: tiny.Weights | None = None, **changes: object) -> Path:
    return tiny.write(path, tiny.sharpening_weights(DEPTH) if weights is None else weights, SHAPE, **changes)  # type: ignore[arg-type]


def flipped(layer: int) -> tiny.Weights:
    """Return the network with the largest weight of one layer negated."""
    weights = tiny.sharpening_weights(DEPTH)
    flat = weights[layer].reshape(-1)
    flat[np.abs(flat).argmax()] *= -1
    return weights


def test_an_equal_engine_passes(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(engine(tmp_path / "sharp_int8.onnx", precision="int8")) == 0
    found = capsys.readouterr()
    assert found.err == ""
    row = next(line for line in found.out.splitlines() if line.startswith("sharp_int8.onnx"))
    assert row.split()[1:6] == ["x2", row.split()[2], "+0.000", "+0.000", "100.0"] and row.endswith("ok")


def test_an_engine_that_comes_along_is_gated_by_its_name(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(Path("vdsr")) == 2  # it is found, and takes other tiles than the reference
    assert "vdsr_pruned_qat_int8.onnx: takes tiles (1, 1, 256, 256)" in error_lines(capsys)[0]
    assert gate(Path("edsrr")) == 2
    assert "edsrr: no such file, and no shipped engine is called so" in error_lines(capsys)[0]
    model = open_model("edsr")  # as sr-eval does
    assert model.card is not None and model.card.arch == "edsr"
    model = open_model("l", scale=4)  # one name, an engine for each scale
    assert model.card is not None and model.card.scales == (4,)


def test_a_missing_file_is_not_judged_by_the_engine_of_its_name(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(Path("vdsr_pruned_qat_int8.onnx")) == 2
    assert "vdsr_pruned_qat_int8.onnx: " in (error := error_lines(capsys)[0]) and "o such file" in error


def test_the_reference_itself_passes(gate: Gate, reference: Path) -> None:
    assert gate(reference) == 0


def test_a_small_difference_within_the_budget_passes(gate: Gate, tmp_path: Path) -> None:
    weights = tuple(np.float32(1.001) * w for w in tiny.sharpening_weights(DEPTH))
    assert gate(engine(tmp_path / "m_int8.onnx", weights, precision="int8")) == 0
    assert gate(engine(tmp_path / "m_fp32.onnx", weights)) == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("layer", range(DEPTH))
def test_a_flipped_weight_fails(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: int, precision: str
) -> None:
    assert gate(engine(tmp_path / f"m_{precision}.onnx", flipped(layer), precision=precision)) == 1
    assert any("it agrees with fp32 by" in line and "the budget is at least" in line for line in error_lines(capsys))


@pytest.mark.parametrize("offset", [0.5, -0.5])
def test_half_a_grey_level_more_fails(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str], offset: float) -> None:
    assert gate(engine(tmp_path / "m_int8.onnx", precision="int8", offset=offset / 255.0)) == 1
    lines = error_lines(capsys)
    assert any("grey levels off fp32 on average, the budget is 0.25; the engine adds a constant" in line for line in lines)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("offset", [math.nan, math.inf, -math.inf])
def test_an_engine_that_returns_no_numbers_fails(gate: Gate, tmp_path: Path, offset: float) -> None:
    assert gate(engine(tmp_path / "m_int8.onnx", precision="int8", offset=offset)) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_json_of_an_engine_that_returns_no_numbers_is_json(gate: Gate, tmp_path: Path) -> None:
    gate(engine(tmp_path / "m_int8.onnx", precision="int8", offset=math.nan), more=["--json", str(tmp_path / "g.json")])

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON (RFC 8259)")

    json.loads((tmp_path / "g.json").read_text(), parse_constant=refuse)


def test_a_network_that_does_nothing_fails(gate: Gate, tmp_path: Path) -> None:
    weights = tuple(np.zeros_like(w) for w in tiny.sharpening_weights(DEPTH))
    assert gate(engine(tmp_path / "m_int8.onnx", weights, precision="int8")) == 1


def test_a_changed_file_is_refused_by_its_digest(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = engine(tmp_path / "m_fp32.onnx")
    raw, other = (weights[1].tobytes() for weights in (tiny.sharpening_weights(DEPTH), flipped(1)))
    path.write_bytes(path.read_bytes().replace(raw, other, 1))
    assert gate(path) == 2
    lines = error_lines(capsys)
    assert len(lines) == 1 and "changed after it was made" in lines[0]


def test_one_bad_engine_among_good_ones_fails(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = engine(tmp_path / "good_fp32.onnx"), engine(tmp_path / "bad_fp32.onnx", flipped(0))
    assert gate(good, bad) == 1
    found = capsys.readouterr()
    assert all(str(bad) in line for line in found.err.splitlines())
    verdicts = {line.split()[0]: line.split()[-1] for line in found.out.splitlines() if line.endswith(("ok", "FAILED"))}
    assert verdicts == {"good_fp32.onnx": "ok", "bad_fp32.onnx": "FAILED"}


def test_an_int8_graph_is_no_reference(gate: Gate, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(reference, reference=engine(tmp_path / "m_int8.onnx", precision="int8")) == 2
    assert "is int8, the reference must be fp32; name the checkpoint or NAME_fp32.onnx" in error_lines(capsys)[0]


@pytest.mark.parametrize("other", [tiny.sharpening_weights(3), tiny.random_weights((8, 8, 6, 1))])
def test_another_networks_engine_is_refused(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: tiny.Weights
) -> None:
    assert gate(engine(tmp_path / "m_fp32.onnx", other)) == 2
    assert "name the checkpoint it was exported from" in error_lines(capsys)[0]


def test_another_tile_shape_than_the_references_is_refused(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(tiny.write(tmp_path / "m_fp32.onnx", tiny.sharpening_weights(DEPTH), (1, 1, 40, 48))) == 2
    assert "export both alike" in error_lines(capsys)[0]


def test_a_precision_without_budget_is_refused(
    gate: Gate, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.toml").write_text("[int8]\nmax_drop_db = 1\n")
    assert gate(reference, budget=tmp_path / "b.toml") == 2
    assert "has no budget for fp32 (sharp_fp32.onnx); add a table [fp32]" in error_lines(capsys)[0]


def test_a_models_own_budget_decides(gate: Gate, tmp_path: Path) -> None:
    path = engine(tmp_path / "mine_fp32.onnx", flipped(1))
    (tmp_path / "b.toml").write_text("[fp32]\nmin_agreement_db = 90\n[models.mine.fp32]\nmin_agreement_db = 20\n")
    assert (gate(path), gate(path, budget=tmp_path / "b.toml")) == (1, 0)


@pytest.mark.parametrize("scale", ["5", "9"])
def test_a_scale_that_is_not_served_is_refused(
    gate: Gate, reference: Path, capsys: pytest.CaptureFixture[str], scale: str
) -> None:
    assert gate(reference, scale=["--scale", scale]) == 2
    assert f"not {scale}; choose one with --scale" in error_lines(capsys)[0]


def test_the_calibrated_scale_is_gated(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(engine(tmp_path / "m_int8.onnx", precision="int8", calibrated_scale=3), scale=()) == 0
    assert " x3 " in (shown := capsys.readouterr().out) and " x2 " not in shown


def test_every_scale_that_an_engine_serves_is_gated(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.toml").write_text("[int8]\nmax_drop_db = 0.1\n[int8.x4]\nmin_psnr_db = 90\n")
    good, report = engine(tmp_path / "m_int8.onnx", precision="int8"), tmp_path / "g.json"
    assert gate(good, scale=(), budget=tmp_path / "b.toml", more=["--json", str(report), "--junit", str(tmp_path / "j.xml")]) == 1
    (line,) = error_lines(capsys)
    assert f"{good} x4: PSNR " in line and "the budget is at least 90 dB (fp32 has " in line
    found = json.loads(report.read_text())["results"]
    assert [(row["scale"], row["passed"]) for row in found] == [(2, True), (3, True), (4, False)]
    assert found[0]["psnr_db"] > found[1]["psnr_db"] > found[2]["psnr_db"]
    assert [case.get("name") for case in ET.parse(tmp_path / "j.xml").getroot()] == [f"{good} x{scale}" for scale in (2, 3, 4)]
    assert gate(good, budget=tmp_path / "b.toml") == 0  # --scale narrows


def test_the_gain_is_over_bicubic_of_the_same_pictures(gate: Gate, identity: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "g.json"
    (tmp_path / "b.toml").write_text("[fp32]\nmin_gain_over_bicubic_db = 0.001\n")
    assert gate(identity, reference=identity, budget=tmp_path / "b.toml", more=["--json", str(report)]) == 1
    (found,) = json.loads(report.read_text())["results"]
    assert found["gain_over_bicubic_db"] == pytest.approx(0.0, abs=1e-6)  # it returns its input
    assert found["psnr_db"] == pytest.approx(evaluate(["bicubic"], EvalOptions((data,))).results[0].psnr_db, abs=1e-6)


def test_a_picture_too_small_is_refused(gate: Gate, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (8, 80)).save(tmp_path / "small.png")
    assert gate(reference, data=tmp_path) == 2
    assert "8x80 pixels is too small to measure at x2; leave it out" in error_lines(capsys)[0]


def test_a_picture_thinner_than_a_tile_is_measured(gate: Gate, reference: Path, tmp_path: Path) -> None:
    Image.effect_noise((20, 90), 40).save(tmp_path / "thin.png")
    assert gate(reference, data=tmp_path) == 0


def test_a_broken_picture_is_one_line(gate: Gate, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    assert gate(reference, data=tmp_path) == 2
    assert len(error_lines(capsys)) == 1


def test_an_empty_folder_is_refused(gate: Gate, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(reference, data=tmp_path) == 2
    assert "holds no picture" in error_lines(capsys)[0]


def test_a_flat_picture_passes(gate: Gate, reference: Path, flat_picture: Path) -> None:
    assert gate(reference, data=flat_picture) == 0


def test_json_holds_every_figure(gate: Gate, tmp_path: Path, data: Path, reference: Path) -> None:
    bad = engine(tmp_path / "bad_int8.onnx", flipped(0), precision="int8")
    gate(reference, bad, more=["--json", str(tmp_path / "g.json")])
    found = json.loads((tmp_path / "g.json").read_text())
    assert (found["reference"], found["data"]) == (str(reference), str(data))
    first, second = found["results"]
    assert (first["engine"], first["precision"], first["scale"], first["passed"]) == (str(reference), "fp32", 2, True)
    assert (first["drop_db"], first["failures"], first["budget"]["min_agreement_db"]) == (0.0, [], 90.0)
    assert (second["engine"], second["passed"]) == (str(bad), False)
    assert second["failures"] and second["latency_ms"] > 0
    assert [p["picture"] for p in second["pictures"]] == ["china.png", "coffee.png", "grass.png"]
    assert second["worst_drop_db"] == max(p["drop_db"] for p in second["pictures"])
    assert second["worst_agreement_db"] == min(p["agreement_db"] for p in second["pictures"])
    assert second["psnr_db"] == pytest.approx(np.mean([p["psnr_db"] for p in second["pictures"]]))


def test_junit_has_a_case_for_each_engine(gate: Gate, tmp_path: Path, reference: Path) -> None:
    bad = engine(tmp_path / "bad<&>_fp32.onnx", flipped(0))
    gate(reference, bad, more=["--junit", str(tmp_path / "j.xml")])
    suite = ET.parse(tmp_path / "j.xml").getroot()
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    good_case, bad_case = suite.findall("testcase")
    assert (good_case.get("name"), good_case.findall("failure")) == (f"{reference} x2", [])
    assert bad_case.get("name") == f"{bad} x2"
    assert any("agrees with fp32" in (line.get("message") or "") for line in bad_case.findall("failure"))


def test_summary_is_appended_as_markdown(gate: Gate, tmp_path: Path, reference: Path) -> None:
    summary = tmp_path / "s.md"
    summary.write_text("before\n")
    gate(reference, engine(tmp_path / "bad_fp32.onnx", flipped(0)), more=["--summary", str(summary)])
    lines = summary.read_text().splitlines()
    assert lines[:2] == ["before", "### sr-gate"]
    assert lines[3].startswith("| engine") and lines[4].startswith("| ---")
    assert any(line.startswith("| bad_fp32.onnx") and line.rstrip("| ").endswith("FAILED") for line in lines)
    assert any(line.startswith("- ") and "agrees with fp32" in line for line in lines)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_fp16_on_a_cpu_is_marked_weights_only(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(engine(tmp_path / "m_fp16.onnx", precision="fp16"), more=["--json", str(tmp_path / "g.json")]) == 0
    assert "ok (weights only)" in capsys.readouterr().out
    assert json.loads((tmp_path / "g.json").read_text())["results"][0]["note"].startswith("weights only")


@pytest.mark.parametrize(("more", "exact"), [([], [True]), (["--native-sums"], [])])
def test_the_verdict_does_not_depend_on_the_processors_kernels_unless_asked(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], exact: list[bool]
) -> None:
    opened: list[bool] = []
    original = loading.load

    def watched(path: Path, **options: Any) -> Engine:
        opened.append(bool(options.get("exact")))
        return original(path, **options)

    monkeypatch.setattr(loading, "load", watched)
    assert gate(engine(tmp_path / "sharp_int8.onnx", precision="int8"), more=more) == 0
    assert opened == exact


def test_a_graph_as_reference_does_not_import_torch(reference: Path, data: Path, budgets: Path) -> None:
    code = (
        "import sys; from sr_deploy.gate.command import main; code = main(sys.argv[1:]);"
        "print([m for m in ('torch', 'onnx') if m in sys.modules]); sys.exit(code)"
    )
    options = ["--reference", reference, "--data", data, "--budget", budgets]
    command = [sys.executable, "-c", code, str(reference), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_verdict_is_given_even_if_a_report_cannot_be_written(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = engine(tmp_path / "bad_int8.onnx", flipped(0), precision="int8")
    (tmp_path / "file").write_text("")
    more = ["--json", str(tmp_path / "file" / "gate.json"), "--junit", str(tmp_path / "junit.xml")]
    assert gate(bad, more=more) == 1
    lines = error_lines(capsys)
    assert any("below fp32" in line for line in lines) and "gate.json: cannot be written" in lines[-1]
    assert (tmp_path / "junit.xml").exists()
    good = engine(tmp_path / "good_int8.onnx", precision="int8")
    assert gate(good, more=more) == 2


def test_a_report_never_replaces_what_is_gated(gate: Gate, tmp_path: Path, budgets: Path) -> None:
    good = engine(tmp_path / "good_int8.onnx", precision="int8")
    before = good.read_bytes(), budgets.read_bytes()
    for option in ("--json", "--junit", "--summary"):
        for path in (good, budgets):
            assert gate(good, more=[option, str(path)]) == 2
    assert (good.read_bytes(), budgets.read_bytes()) == before

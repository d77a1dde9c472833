"""``gate`` and ``evaluate`` from Python: what they return, and that they print nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.errors import InputError
from sr_deploy.gate import GateOptions, gate
from sr_deploy.gate.eval import EvalOptions, evaluate
from sr_deploy.progress import Step
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny


def test_a_gate_returns_its_verdict_and_prints_nothing(
    reference: Path, data: Path, budgets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = tiny.write(tmp_path / "sharp_int8.onnx", tiny.sharpening_weights(4), SHAPE, precision="int8")
    steps: list[Step] = []
    options = GateOptions(reference, data, budget=budgets, scale=2, threads=1)
    result = gate([good], options, progress=steps.append)
    assert result.passed and result.failures == () and result.reference == reference and result.reference_ms > 0.0
    (engine,) = result.results
    assert (engine.name, engine.precision, engine.drop_db, len(engine.pictures)) == (str(good), "int8", 0.0, 3)
    assert [(step.done, step.total) for step in steps if step.label == "gate"] == [(1, 3), (2, 3), (3, 3)]
    weights = tuple(0.5 * weight for weight in tiny.sharpening_weights(4))
    bad = tiny.write(tmp_path / "dull_int8.onnx", weights, SHAPE, precision="int8")
    found = gate([good, bad], options)
    assert not found.passed and found.failures and all(line.startswith(str(bad)) for line in found.failures)
    assert capfd.readouterr() == ("", "")


def test_an_evaluation_returns_its_rows_and_prints_nothing(identity: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[Step] = []
    result = evaluate(["bicubic", identity], EvalOptions((data,), scales=(2, 3), threads=1), progress=steps.append)
    assert [(row.model, row.scale, row.images) for row in result.results] == [
        (name, scale, 3) for name in ("bicubic", str(identity)) for scale in (2, 3)
    ]
    assert all(row.psnr_db is not None and row.psnr_db > 20.0 and row.lpips is None for row in result.results)
    assert len(steps) == 4 * 3 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0}, "scale=0: not a number above 0"),
        ({"provider": "tpu"}, "provider='tpu': not one of auto, cpu"),
        ({"threads": 0}, "threads=0: not within 1 to 256"),
    ],
)
def test_options_of_a_gate_that_cannot_be_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GateOptions(Path("r"), Path("d"), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ()}, r"data=\(\): no folder of pictures"),
        ({"scales": (2, 0)}, "scales=0: not a number above 0"),
        ({"protocol": "half"}, "protocol='half': not one of whole, fixed"),
        ({"metrics": ("psnr", "mos")}, "metrics='mos': not one of psnr, ssim, lpips, fid"),
        ({"lpips_net": "resnet"}, "lpips_net='resnet': not one of alex, vgg, squeeze"),
    ],
)
def test_options_of_an_evaluation_that_cannot_be_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvalOptions(**{"data": (Path("d"),), **change})  # type: ignore[arg-type]


def test_what_is_no_list_of_paths_is_told(tmp_path: Path) -> None:
    options = GateOptions(reference=tmp_path, data=tmp_path)
    for engines in ("ab", ["ab"], (3,)):
        with pytest.raises(InputError, match=r"^engines=.*: is of type .*; give paths$"):
            gate(engines, options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none to compare; name at least one"):
        gate((), options)
    for models in ("ab", [3]):
        with pytest.raises(InputError, match=r"^models=.*: is of type .*; give names or paths$"):
            evaluate(models, EvalOptions(data=(tmp_path,)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none to measure; name at least one"):
        evaluate((), EvalOptions(data=(tmp_path,)))

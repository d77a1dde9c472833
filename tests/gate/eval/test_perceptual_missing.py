"""``sr-eval`` where LPIPS or FID lack something: one line, a dash in the table, and the other figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sr_deploy.gate.eval.command import main


@pytest.mark.parametrize(
    ("metric", "package"),
    [("lpips", "torchvision"), ("lpips", "torchmetrics"), ("lpips", "torch"), ("fid", "torch_fidelity"), ("fid", "torch")],
)
def test_a_missing_package_leaves_its_metric_out(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    identity: Path,
    data: Path,
    metric: str,
    package: str,
) -> None:
    if package != "torch":
        pytest.importorskip("torch")
        monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(identity), "--data", str(data), "--threads", "1", "--metrics", metric, "psnr"]) == 0
    found = capsys.readouterr()
    assert found.err.splitlines() == [
        f"sr-eval: warning: {metric.upper()} is left out: package {package} is not installed; pip install 'sr-deploy[metrics]'"
    ]
    _, heading, _, row = found.out.splitlines()
    assert heading.split()[5:] == [metric.upper(), "PSNR", "dB"]
    assert row.split()[5] == "-" and float(row.split()[6]) > 20.0


def test_figures_that_were_not_measured_are_null(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert main(["bicubic", "--data", str(data), "--metrics", "psnr", "lpips", "fid", "--json", "-"]) == 0
    found = capsys.readouterr()
    entry = json.loads(found.out)["results"][0]
    assert (entry["lpips"], entry["lpips_net"], entry["fid"]) == (None, None, None)
    assert entry["psnr_db"] > 20.0 and entry["ssim"] > 0.5
    assert [line.split()[2] for line in found.err.splitlines()] == ["LPIPS", "FID"]


def test_a_broken_torchvision_leaves_its_metric_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist\\nsecond line')\n")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["bicubic", "--data", str(data), "--metrics", "psnr", "lpips"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "sr-eval: warning: LPIPS is left out: its network does not load (operator torchvision::nms does not exist); "
        "install packages that fit each other: pip install -U 'sr-deploy[metrics]'"
    ]


def test_an_unknown_metric_is_refused(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bicubic", "--data", str(data), "--metrics", "psnr", "niqe"])
    assert ended.value.code == 2
    assert "invalid choice: 'niqe'" in capsys.readouterr().err


def test_columns_are_those_asked_for_in_their_order(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert main(["bicubic", "--data", str(data), "--metrics", "ssim", "psnr", "ssim"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[5:] == ["SSIM", "PSNR", "dB"]

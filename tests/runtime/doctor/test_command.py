"""``sr-doctor``: what it says of this machine is true, and what is missing has a command."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from sr_deploy.errors import InputError
from sr_deploy.runtime.doctor import run as doctor
from sr_deploy.runtime.doctor.command import main


def test_every_line_says_what_was_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--json", str(tmp_path / "d.json")]) == 0
    found = json.loads((tmp_path / "d.json").read_text())
    assert list(found) == list(doctor.PROBES)
    shown = capsys.readouterr().out
    assert all(finding["what"] in shown and finding["found"] for finding in found.values())
    assert (found["train"]["mend"] == "") == (importlib.util.find_spec("lightning") is not None)


def test_json_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--json", "-"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(doctor.PROBES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("100", 100), ("200", 100)])
def test_the_report_fits_the_terminal(
    columns: str, widest: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    long = doctor.Finding("ONNX Runtime, CUDA", "a provider " * 12, "a command " * 12)
    monkeypatch.setattr(doctor, "PROBES", {"python": doctor.python, "cpu": lambda: long})
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert widest - 12 < max(map(len, lines)) <= widest
    assert " ".join(lines[1].split()).startswith("ONNX Runtime, CUDA a provider a provider")
    assert sum(line.startswith(" " * doctor.INDENT + "-> a command") for line in lines) == 1
    assert max(len(finding.what) for finding in (doctor.python(), long)) < doctor.INDENT


def test_a_pillow_without_avif_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.avif().found.endswith(", read and written") and doctor.avif().good
    monkeypatch.setattr(doctor, "writes_avif", lambda: False)
    assert doctor.avif().found.endswith(", read, not written") and doctor.avif().mend == "pip install -U Pillow"
    monkeypatch.setattr(doctor, "reads_avif", lambda: False)
    assert doctor.avif().found.endswith(", not read")


def test_what_is_needed_and_here_is_exit_0() -> None:
    assert main(["--need", "cpu"]) == 0


def test_what_is_needed_and_missing_is_exit_1_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = doctor.Finding("TensorRT", "not here", "get it")
    monkeypatch.setitem(doctor.PROBES, "tensorrt", lambda: missing)
    assert main(["--need", "cpu", "tensorrt"]) == 1
    assert capsys.readouterr().err == "sr-doctor: tensorrt is not usable here: not here; get it\n"


def test_a_missing_runtime_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = doctor.onnxruntime("CPUExecutionProvider", "cpu")
    assert not found.good and found.mend == "pip install 'sr-deploy[cpu]'"


def test_a_missing_provider_names_those_that_are_here() -> None:
    found = doctor.onnxruntime("NoSuchProvider", "cuda")
    assert "CPUExecutionProvider" in found.found and found.mend.endswith("&& pip install 'sr-deploy[cuda]'")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = doctor.packages("train")
    assert "torch" in found.found and found.mend == "pip install 'sr-deploy[train]'"
    assert doctor.packages("export").mend == "pip install 'sr-deploy[export,cpu]'"
    assert doctor.packages("video").found == "without av"


def test_a_machine_without_tensorrt_is_told_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = doctor.tensorrt()
    assert "not installed" in found.found and "sr-deploy[tensorrt]" in found.mend and ".onnx" in found.mend


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.cache() == doctor.Finding("cache", str(tmp_path / "sr-deploy"))
    assert doctor.cache().good
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "XDG_CACHE_HOME" in doctor.cache().mend


def test_what_is_needed_is_something_that_is_looked_for() -> None:
    with pytest.raises(InputError, match="need='gpus': not one of python, cpu, cuda"):
        doctor.DoctorOptions(need=("cpu", "gpus"))

"""``make gpu-check`` from end to end, with a small network and the stand-in: every step runs, and what it saw is written."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from sr_deploy.runtime.backends import tensorrt_library, tensorrt_peak
from tests.tensorrt.conftest import Machine

Graph = Callable[[str], Path]


@pytest.fixture
def gpu_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, with small numbers of everything."""
    monkeypatch.syspath_prepend(str(root))
    module = importlib.import_module("benchmarks.gpu_check")
    for name, value in {"BUSY_TILES": 4, "BATCHES": (1, 2), "FOLDER": (2, (90, 60))}.items():
        monkeypatch.setattr(module, name, value)
    return module


def with_stand_in(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import tensorrt`` and ``from cuda.bindings import runtime`` find the stand-ins."""
    monkeypatch.setitem(sys.modules, "tensorrt", machine.trt)
    bindings = SimpleNamespace(runtime=machine.cudart)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings, cudart=machine.cudart))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    peak = tensorrt_peak.gpu_peak_tflops
    monkeypatch.setattr(tensorrt_peak, "gpu_peak_tflops", lambda trt, cuda: peak(trt, cuda, side=64))
    monkeypatch.setattr(machine.cudart, "cudaDriverGetVersion", lambda: (0, 12040), raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("release", ["8.5.3", "11.4.0"])
def test_everything_is_done_and_written(
    gpu_check: ModuleType,
    graph: Graph,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    release: str,
) -> None:
    machine = Machine(release)
    with_stand_in(machine, monkeypatch)
    folder = tmp_path / "gpu"
    folder.mkdir()
    names = [(model, precision) for model in gpu_check.MODELS for precision in gpu_check.PRECISIONS]
    for model, precision in names:
        shutil.copy(graph(precision), folder / f"{model}_{precision}.onnx")
    (tmp_path / "gates.toml").write_text("[fp32]\nmax_drop_db = 0.01\n[fp16]\nmax_drop_db = 0.1\n[int8]\nmax_drop_db = 0.5\n")
    small = tmp_path / "pictures"
    small.mkdir()
    shutil.copy(root / "tests" / "pictures" / "coffee.png", small)

    def command(module: str, *arguments: object) -> int:
        given = [str(a) for a in arguments]
        for old, new in {
            "tests/pictures": small,
            "sr_deploy/gates.toml": tmp_path / "gates.toml",
            "200": 3,
            "100": 3,
            "50": 2,
        }.items():
            given = [str(new) if a == old else a for a in given]
        code = importlib.import_module(f"sr_deploy.{module}").main(given)
        assert isinstance(code, int)
        return code

    monkeypatch.setattr(gpu_check, "command", command)
    monkeypatch.setattr(gpu_check, "torch_fp16_ms", lambda model, left_out: left_out.append(f"PyTorch fp16 of {model}"))
    monkeypatch.setattr(gpu_check, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    monkeypatch.setattr(gpu_check, "subprocess", SimpleNamespace(run=lambda *args, **kwargs: SimpleNamespace(returncode=0)))
    assert gpu_check.main(["--folder", str(folder), "--output", str(tmp_path)]) == 0
    (found,) = tmp_path.glob("test-gpu-trt*.json")
    facts = json.loads(found.read_text())
    assert facts["tensorrt"] == machine.trt.__version__ and facts["gpu"] == "NVIDIA Test GPU"
    assert {row["precision"] for row in facts["bench"]["results"]} == {"fp32", "fp16", "int8"}
    assert {(Path(row["engine"]).stem, row["batch"]) for row in facts["batches"]} == {
        (f"{name}_b1-2", batch) for name in ("vdsr_fp16", "vdsr_pruned_int8") for batch in (1, 2)
    }
    assert set(facts["busy"]) == {f"{model}_{precision}" for model, precision in names}
    assert set(facts["folder_4k"]["overlap"]) >= {"decode", "colour", "engine", "encode", "wall"}
    assert len(facts["targets"]) == 6 and {line[2] for line in facts["targets"]} <= {"met", "NOT met"}
    assert facts["onnxruntime_cuda"] is None
    assert [line.split()[0] for line in facts["left_out"]] == ["export:", "ONNX", "PyTorch", "PyTorch"]
    printed = capsys.readouterr().out
    assert "| vdsr_pruned_int8 |" in printed.replace("  ", " ").replace("  ", " ") and f"{found}: written" in printed
    assert machine.cudart.leaks == 0
    assert tensorrt_library.tensorrt_module() is machine.trt


@pytest.mark.parametrize(("inside", "verdict"), [(True, "met"), (False, "NOT met")])
def test_a_target_is_met_just_inside_its_limit(gpu_check: ModuleType, inside: bool, verdict: str) -> None:
    off = 0.0 if inside else 1e-6
    gate = [{"precision": p, "drop_db": drop} for p, drop in (("fp32", 0.0), ("fp16", 0.01 + off), ("int8", 0.15 + off))]
    better = [{**row, "drop_db": 0.0} for row in gate]
    facts = {
        "bench": {
            "results": [{"engine": "a/vdsr_fp16.plan", "p50_ms": 1.5}, {"engine": "a/vdsr_pruned_int8.plan", "p50_ms": 1 + off}]
        },
        "gate": {"vdsr": gate, "vdsr_pruned": better},
        "busy": {
            "vdsr_pruned_int8": {
                "graphs_off_wall_ms": 1.0,
                "graphs_on_wall_ms": 0.999 if inside else 1.0,
                "graphs_on_busy": 0.85 - off,
            }
        },
        "folder_4k": {"overlap": {"wall_over_slowest": 1.15 + off}},
    }
    found = gpu_check.targets(facts)
    assert [line[2] for line in found] == [verdict] * 6
    assert gpu_check.targets({**facts, "folder_4k": None})[-1][1:] == ["inf times", "NOT met"]


def test_graphs_that_are_missing_are_named(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_stand_in(Machine("8.6.0"), monkeypatch)
    monkeypatch.setattr(gpu_check, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    assert gpu_check.main(["--folder", str(tmp_path / "empty"), "--output", str(tmp_path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "without vdsr_fp32.onnx, vdsr_fp16.onnx" in line and "export them where torch is" in line


def test_without_a_gpu_it_is_one_line(gpu_check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is here")
    assert gpu_check.main(["--folder", str(tmp_path), "--output", str(tmp_path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gpu-check: TensorRT is not installed")

"""Everything TensorRT does, done once on a machine with an NVIDIA GPU, and what was seen written down.

Exports (with torch; without it, takes the graphs that lie in the folder and says so), builds fp32, fp16 and int8 plans of the
dense and the pruned VDSR, gates them against the fp32 graphs, times them beside PyTorch and ONNX Runtime on CUDA where those
are, measures how busy the GPU is kept, runs the ``gpu`` tests, and writes ``benchmarks/<gpu>-trt<version>.json``.
Needs no torch, no package index and no shell but this interpreter.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.folder import compare
from sr_deploy.console import run, table
from sr_deploy.errors import CheckError, MachineError, SrDeployError
from sr_deploy.files import write_text
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.tensorrt_engine import load_plan
from sr_deploy.runtime.backends.tensorrt_library import tensorrt_module
from sr_deploy.runtime.doctor.run import tensorrt as tensorrt_finding

Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parent.parent
MODELS = ("vdsr", "vdsr_pruned")
PRECISIONS = ("fp32", "fp16", "int8")
BUSY_TILES = 256
BATCHES = (1, 4, 16, 64)
FOLDER = 20, (3840, 2160)  # pictures, and their size


def command(module: str, *arguments: object) -> int:
    """Run a command of this project in this interpreter's environment and return its exit code."""
    return subprocess.run([sys.executable, "-m", f"sr_deploy.{module}", *map(str, arguments)], check=False, cwd=ROOT).returncode


def must(module: str, *arguments: object) -> None:
    """Run a command and stop with one line if it does not end well."""
    code = command(module, *arguments)
    if code:
        raise CheckError(f"{module} {' '.join(map(str, arguments))}: exit {code}; see above")


def graphs_in(folder: Path, left_out: list[str]) -> list[Path]:
    """Return the graphs of both networks, exported now where torch is."""
    if importlib.util.find_spec("torch") is None:
        left_out.append("export: torch is not installed, the graphs in the folder were taken")
    else:
        for model in MODELS:
            must("export.command", f"train/pretrained/{model}.safetensors", "-o", folder, "--precision", *PRECISIONS)
    found = [folder / f"{model}_{precision}.onnx" for model in MODELS for precision in PRECISIONS]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise MachineError(f"{folder}: without {', '.join(missing)}; export them where torch is and bring the folder along")
    return found


def busy_share(plan: Path) -> dict[str, float]:
    """Return how busy the GPU is while tiles go from host memory to host memory, with CUDA graphs and without."""
    result = {}
    for name, graphs in (("graphs_on", True), ("graphs_off", False)):
        with closing(load_plan(plan, graphs=graphs)) as engine:
            assert engine.card.input_shape is not None
            tiles = np.random.default_rng(0).random((BUSY_TILES, *engine.card.input_shape[1:]), np.float32)
            engine.run(tiles)
            per_batch = statistics.median(engine.device_times_ms(5, runs=20))
            device_ms = per_batch * BUSY_TILES / engine.card.input_shape[0]
            walls = []
            for _ in range(5):
                began = time.perf_counter()
                engine.run(tiles)
                walls.append(1000.0 * (time.perf_counter() - began))
            result[f"{name}_wall_ms"] = statistics.median(walls)
            result[f"{name}_busy"] = device_ms / statistics.median(walls)
    return result


def batch_figures(graphs: list[Path], folder: Path) -> list[dict[str, object]]:
    """Return the figures of plans with several profiles, one row for each batch."""
    must("export.plans.command", *graphs, "-o", folder, "--batch", *BATCHES)
    plans = [folder / f"{graph.stem}_b{'-'.join(map(str, BATCHES))}.plan" for graph in graphs]
    must("runtime.bench.command", *plans, "--rounds", 100, "--json", folder / "batches.json")
    found: list[dict[str, object]] = json.loads((folder / "batches.json").read_text())["results"]
    return found


def targets(facts: dict[str, Any]) -> list[list[str]]:
    """Return what this project wants of a GPU beside what was measured: (target, measured, met)."""
    bench = {Path(row["engine"]).stem: row for row in facts["bench"]["results"]}
    drops = {
        p: max(row["drop_db"] for rows in facts["gate"].values() for row in rows if row["precision"] == p) for p in PRECISIONS
    }
    speed = bench["vdsr_fp16"]["p50_ms"] / bench["vdsr_pruned_int8"]["p50_ms"]
    busy, folder = facts["busy"]["vdsr_pruned_int8"], facts["folder_4k"]
    overlap = folder["overlap"]["wall_over_slowest"] if folder else math.inf
    graphs = busy["graphs_off_wall_ms"] / busy["graphs_on_wall_ms"]
    lines = [
        ("fp16 within 0.01 dB of fp32", f"{drops['fp16']:.4f} dB", drops["fp16"] <= 0.01),
        ("int8 within 0.15 dB of fp32", f"{drops['int8']:.4f} dB", drops["int8"] <= 0.15),
        ("pruned int8 1.5 times as fast as dense fp16 at batch 1", f"{speed:.2f} times", speed >= 1.5),
        ("CUDA graphs faster than without", f"{graphs:.3f} times", graphs > 1.0),
        (
            "GPU busy for 85 % from host memory to host memory",
            f"{100 * busy['graphs_on_busy']:.0f} %",
            busy["graphs_on_busy"] >= 0.85,
        ),
        ("20 pictures of 3840x2160 in 1.15 times the slowest stage", f"{overlap:.2f} times", overlap <= 1.15),
    ]
    return [[what, measured, "met" if met else "NOT met"] for what, measured, met in lines]


def tried(what: str, left_out: list[str], step: Callable[[], Result]) -> Result | None:
    """Return what a step returns; where it fails, say so and go on, so that what was measured before is not lost."""
    try:
        return step()
    except (SrDeployError, OSError, MemoryError) as err:
        left_out.append(f"{what}: {err}")
        return None


def torch_fp16_ms(model: str, left_out: list[str]) -> float | None:
    """Return PyTorch's time of a 256x256 tile in fp16, channels_last and compiled, host memory to host memory."""
    if importlib.util.find_spec("torch") is None:
        left_out.append(f"PyTorch fp16 of {model}: torch is not installed")
        return None
    import torch

    from sr_deploy.train.weights import checkpoint

    network, _ = checkpoint.load(ROOT / "train" / "pretrained" / f"{model}.safetensors")
    compiled: Any = torch.compile(network.half().cuda().to(memory_format=torch.channels_last))
    tile = torch.rand(1, 1, 256, 256)
    times = []
    with torch.inference_mode():
        for _ in range(60):
            began = time.perf_counter()
            compiled(tile.cuda().half().contiguous(memory_format=torch.channels_last)).float().cpu()
            times.append(1000.0 * (time.perf_counter() - began))
    return statistics.median(times[20:])


def check(folder: Path, output: Path) -> int:
    """Do everything and write what was seen; return the exit code."""
    finding = tensorrt_finding()
    if not finding.good:
        raise MachineError(f"{finding.found}; {finding.mend}")
    cuda, trt, left_out = Cuda(), tensorrt_module(), list[str]()
    device = cuda.device()
    folder.mkdir(parents=True, exist_ok=True)
    graphs = graphs_in(folder, left_out)
    must("export.plans.command", *graphs, "-o", folder, "--force")
    for old in (*(folder / f"{model}_gate.json" for model in MODELS), folder / "bench.json", folder / "onnx.json"):
        old.unlink(missing_ok=True)
    verdicts = {}
    for model in MODELS:
        plans = [folder / f"{model}_{precision}.plan" for precision in PRECISIONS]
        options = ["--reference", folder / f"{model}_fp32.onnx", "--data", "tests/pictures", "--budget", "sr_deploy/gates.toml"]
        verdicts[model] = command("gate.command", *plans, *options, "--json", folder / f"{model}_gate.json")
    engines = [graph.with_suffix(".plan") for graph in graphs]
    must("runtime.bench.command", *engines, "--rounds", 200, "--data", "tests/pictures", "--json", folder / "bench.json")
    on_cuda = command("runtime.bench.command", *graphs, "--provider", "cuda", "--rounds", 50, "--json", folder / "onnx.json") == 0
    if not on_cuda:
        left_out.append("ONNX Runtime on CUDA: this onnxruntime has no CUDA")
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"], check=False, cwd=ROOT).returncode
    several, (count, size) = [folder / "vdsr_fp16.onnx", folder / "vdsr_pruned_int8.onnx"], FOLDER
    facts = {
        "gpu": device.name,
        "capability": device.capability,
        "tensorrt": str(trt.__version__),
        "cuda": cuda.version(),
        "bench": json.loads((folder / "bench.json").read_text()),
        "onnxruntime_cuda": json.loads((folder / "onnx.json").read_text()) if on_cuda else None,
        "gate": {model: json.loads((folder / f"{model}_gate.json").read_text())["results"] for model in MODELS},
        "torch_fp16_ms": {model: torch_fp16_ms(model, left_out) for model in MODELS},
        "busy": {plan.stem: busy_share(plan) for plan in engines},
        "batches": tried("batches", left_out, lambda: batch_figures(several, folder)),
        "folder_4k": tried("folder of 4K pictures", left_out, lambda: compare(engines[-1], count=count, size=size, rounds=1)),
        "left_out": left_out,
    }
    facts["targets"] = targets(facts)
    name = "".join(c if c.isalnum() else "-" for c in device.name.lower().removeprefix("nvidia ")).strip("-")
    target = output / f"{name}-trt{trt.__version__}.json"
    write_text(target, json.dumps(facts, indent=2) + "\n")
    rows = [["plan", "p50 ms", "device ms", "tiles/s", "PSNR dB", "GPU busy"]]
    for result in facts["bench"]["results"]:
        stem = Path(result["engine"]).stem
        busy = f"{100 * facts['busy'][stem]['graphs_on_busy']:.0f} %"
        figures = (result["p50_ms"], result["device_ms"][0], result["tiles_per_s"], result["psnr_db"])
        numbers = [f"{figure:.3f}" for figure in figures]
        rows.append([stem, *numbers, busy])
    print(f"\n{device.name}, TensorRT {trt.__version__}\n\n{table(rows, markdown=True)}\n\n{target}: written")
    print(table([["target", "measured", ""], *facts["targets"]], left=1))
    for line in left_out:
        print(f"left out: {line}")
    return 1 if tests or any(verdicts.values()) else 0


def main(argv: list[str] | None = None) -> int:
    """Run the check and return its exit code."""
    parser = argparse.ArgumentParser(description="Build, gate and time TensorRT plans on this machine's GPU.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gpu", help="graphs and plans (default: build/gpu)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="where the JSON goes (default: benchmarks)")
    arguments = parser.parse_args(argv)
    return run("gpu-check", lambda: check(arguments.folder, arguments.output))


if __name__ == "__main__":
    sys.exit(main())

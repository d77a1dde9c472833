"""What int8 loses in the plain networks: shipped engines against the fp32 graphs of the networks as trained.

``python -m benchmarks.int8_loss DATA_DIR``; through the same tiles, exact sums. QAT is part of the way to int8, so the graph is
that of the network before it. The share in int8 is that of the weights: where all convolutions see the same pixels, it is that of
the multiplications.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from benchmarks.quality import SETS
from sr_deploy.console import run
from sr_deploy.files import write_text
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.engines.shipped import Shipped, shipped_engines

ROOT = Path(__file__).resolve().parent.parent


def psnr_db(model: Path, data: Path) -> dict[str, float]:
    """Return the luma PSNR that ``sr-eval`` measures through tiles, by set."""
    folders = [str(data / name) for name in SETS]
    command = [sys.executable, "-m", "sr_deploy.gate.eval.command", str(model), "--data", *folders, "--json", "-"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    return {Path(row["data"]).name: float(row["psnr_db"]) for row in found}


def fp32_graph(engine: Shipped, folder: Path) -> Path:
    """Export the network that an engine began as."""
    checkpoint = ROOT / f"train/pretrained/{engine.name.removesuffix('_int8').removesuffix('_qat')}.safetensors"
    command = [sys.executable, "-m", "sr_deploy.export.command", str(checkpoint), "-o", str(folder), "--precision", "fp32"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / f"{checkpoint.stem}_fp32.onnx"


def int8_share(engine: Shipped) -> float:
    """Return the part of the weights of convolutions that is stored as int8 and read with int8 inputs, 0 to 1."""
    layers = read_card(engine.path()).layers
    sizes = dict.fromkeys(layers, 0)
    for tensor in onnx.load(engine.path()).graph.initializer:
        name = next((name for name in layers if tensor.name.startswith(f"{name}.weight")), None)
        if name is not None and len(tensor.dims) == 4:
            sizes[name] = tensor.dims[0] * tensor.dims[1] * tensor.dims[2] * tensor.dims[3]
    return sum(size for name, size in sizes.items() if layers[name] == "int8") / sum(sizes.values())


def command() -> int:
    """Measure every plain engine and write ``int8_loss.json``."""
    data, rows = Path(sys.argv[1]), []
    for engine in shipped_engines():
        if not engine.name.startswith("plain_"):
            continue
        with tempfile.TemporaryDirectory() as name:
            before, after = psnr_db(fp32_graph(engine, Path(name)), data), psnr_db(engine.path(), data)
        drops = {name: before[name] - after[name] for name in SETS}
        rows.append({"engine": engine.name, "sha256": engine.sha256, "int8_share": int8_share(engine), "drop_db": drops})
        print(rows[-1], flush=True)
    write_text(ROOT / "benchmarks/int8_loss.json", json.dumps({"machine": machine(), "results": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("int8_loss.py", command))

"""PSNR drop of int8 by calibration method: every method, the first and last convolution kept or not, Set5 and Set14."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sr_deploy.console import table
from sr_deploy.files import write_text

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("kl", "kl-weighted", "minmax", "percentile", "mse")
SETS = ("set5", "set14")
MODELS = ("vdsr", "vdsr_pruned")
SCALES = (2, 4)


def psnr_db(engines: list[str], data: Path, scale: int) -> dict[str, dict[str, float]]:
    """Return the mean PSNR by engine and set."""
    folders = [str(data / name) for name in SETS]
    command = ["sr-eval", *engines, "--data", *folders, "--scale", str(scale), "--json", "-"]
    results = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    found: dict[str, dict[str, float]] = {engine: {} for engine in engines}
    for result in results:
        found[result["model"]][Path(result["data"]).name] = result["psnr_db"]
    return found


def export(checkpoint: str, folder: Path, scale: int, *options: str) -> None:
    """Run ``sr-export`` into ``folder``."""
    command = ["sr-export", checkpoint, "-o", str(folder), "--scale", str(scale), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure, print the tables, write ``calibration_methods.json``."""
    data, record = Path(sys.argv[1]), []
    models = sys.argv[2:] or MODELS
    with tempfile.TemporaryDirectory() as name:
        for model in models:
            for scale in SCALES:
                record += measure(model, scale, data, Path(name) / f"{model}_{scale}")
    for model in models:
        for scale in SCALES:
            rows = [["method", *(f"{s}, {kept}" for kept in ("ends kept", "every conv") for s in SETS)]]
            for method in METHODS:
                mine = [r for r in record if (r["model"], r["scale"], r["method"]) == (model, scale, method)]
                rows.append([method, *(f"{r['drop_db']:.3f}" for r in mine)])
            reference = next(r for r in record if (r["model"], r["scale"]) == (model, scale))
            print(f"\n{model} x{scale}, PSNR drop in dB against fp32 {reference['fp32_db']}\n")
            print(table(rows, markdown=True))
    write_text(ROOT / "benchmarks/calibration_methods.json", json.dumps({"results": record}, indent=2) + "\n")


def measure(model: str, scale: int, data: Path, folder: Path) -> list[dict[str, object]]:
    """Return one entry per method, choice of kept layers and set."""
    checkpoint = str(ROOT / f"train/pretrained/{model}.safetensors")
    stem = model if scale == 2 else f"{model}_x{scale}"
    export(checkpoint, folder, scale, "--precision", "fp32")
    engines = {}
    for kept, options in (("ends kept", ()), ("every conv", ("--all-layers",))):
        for method in METHODS:
            place = folder / method / kept.replace(" ", "_")
            export(checkpoint, place, scale, "--precision", "int8", "--method", method, *options)
            engines[method, kept] = str(place / f"{stem}_int8.onnx")
    reference = str(folder / f"{stem}_fp32.onnx")
    found = psnr_db([reference, *engines.values()], data, scale)
    return [
        {
            "model": model,
            "scale": scale,
            "method": method,
            "kept": kept,
            "set": name,
            "drop_db": found[reference][name] - found[engine][name],
            "fp32_db": {s: round(found[reference][s], 3) for s in SETS},
        }
        for (method, kept), engine in engines.items()
        for name in SETS
    ]


if __name__ == "__main__":
    main()

"""PSNR and SSIM of bicubic and the pretrained networks on Set5, Set14 and B100 at x2, x3, x4 (whole pictures)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sr_deploy.console import table
from sr_deploy.files import write_text

ROOT = Path(__file__).resolve().parent.parent
SETS = ("set5", "set14", "b100")
SCALES = (2, 3, 4)
MODELS: dict[str, dict[int, str]] = {  # the checkpoint that serves each scale
    "bicubic": dict.fromkeys(SCALES, "bicubic"),
    "VDSR": dict.fromkeys(SCALES, "vdsr"),
    "VDSR pruned": dict.fromkeys(SCALES, "vdsr_pruned"),
    "EDSR": {2: "edsr", 4: "edsr_x4"},
    "EDSR pruned": {2: "edsr_pruned", 4: "edsr_x4_pruned"},
}


def measured(name: str, scales: list[int], folders: list[str]) -> list[dict[str, object]]:
    """Return what ``sr-eval`` says of one checkpoint."""
    model = name if name == "bicubic" else str(ROOT / f"train/pretrained/{name}.safetensors")
    command = ["sr-eval", model, "--data", *folders, "--scale", *map(str, scales), "--json", "-"]
    found: list[dict[str, object]] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    return found


def main() -> None:
    """Measure, print the table, write ``quality.json``."""
    data = Path(sys.argv[1])
    results: dict[tuple[str, int, str], dict[str, object]] = {}
    for label, served in MODELS.items():
        for name in dict.fromkeys(served.values()):
            scales = [scale for scale, other in served.items() if other == name]
            for row in measured(name, scales, [str(data / folder) for folder in SETS]):
                scale, folder = int(str(row["scale"])), Path(str(row["data"])).name
                results[label, scale, folder] = {**row, "model": label, "data": folder}
    rows = [["PSNR dB / SSIM", *MODELS]]
    for folder in SETS:
        for scale in SCALES:
            cells = [results.get((label, scale, folder)) for label in MODELS]
            rows.append([f"{folder} x{scale}", *("" if c is None else f"{c['psnr_db']:.2f} / {c['ssim']:.4f}" for c in cells)])
    print(table(rows, markdown=True))
    write_text(ROOT / "benchmarks/quality.json", json.dumps({"results": list(results.values())}, indent=2) + "\n")


if __name__ == "__main__":
    main()

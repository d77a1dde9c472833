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
MODELS = {
    "bicubic": "bicubic",
    "VDSR": str(ROOT / "train/pretrained/vdsr.safetensors"),
    "VDSR pruned": str(ROOT / "train/pretrained/vdsr_pruned.safetensors"),
}


def main() -> None:
    """Measure, print the table, write ``quality.json``."""
    data = Path(sys.argv[1])
    output = ROOT / "benchmarks/quality.json"
    folders = [str(data / name) for name in SETS]
    command = ["sr-eval", *MODELS.values(), "--data", *folders, "--scale", "2", "3", "4", "--json", "-"]
    results = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    named = {value: key for key, value in MODELS.items()}
    for result in results:
        result["model"], result["data"] = named[result["model"]], Path(result["data"]).name
    rows = [["PSNR dB / SSIM", *MODELS]]
    for folder in SETS:
        for scale in (2, 3, 4):
            found = {r["model"]: r for r in results if r["data"] == folder and r["scale"] == scale}
            rows.append([f"{folder} x{scale}", *(f"{found[m]['psnr_db']:.2f} / {found[m]['ssim']:.4f}" for m in MODELS)])
    print(table(rows, markdown=True))
    write_text(output, json.dumps({"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

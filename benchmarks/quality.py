"""PSNR and SSIM of bicubic and the pretrained networks on Set5, Set14 and B100 (whole pictures), a table for each scale.

``python benchmarks/quality.py DATA_DIR``. Beside what is measured here stands what the papers report for the same protocol.
"""

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
    "plain m": {scale: f"plain_m_x{scale}" for scale in SCALES},
    "plain l": {scale: f"plain_l_x{scale}" for scale in SCALES},
    "VDSR": dict.fromkeys(SCALES, "vdsr"),
    "VDSR pruned": dict.fromkeys(SCALES, "vdsr_pruned"),
    "EDSR": {2: "edsr", 4: "edsr_x4"},
    "EDSR pruned": {2: "edsr_pruned", 4: "edsr_x4_pruned"},
    "SRResNet": {4: "srresnet"},
    "SRResNet pruned": {4: "srresnet_pruned"},
    "SRGAN": {4: "srgan"},
    "SRGAN pruned": {4: "srgan_pruned"},
}
PAPERS: dict[
    int, dict[str, tuple[str, str, str]]
] = {  # as reported: Kim et al. table 2; EDSR-PyTorch; Ledig et al. tables 1 and 2; ETDS by sr-eval (RGB, unrounded)
    2: {
        "ETDS-M, public, RGB": ("37.57 / 0.9590", "33.11 / 0.9133", "31.86 / 0.8956"),
        "ETDS-L, public, RGB": ("37.67 / 0.9594", "33.26 / 0.9145", "31.97 / 0.8970"),
        "VDSR, its paper": ("37.53 / 0.9587", "33.03 / 0.9124", "31.90 / 0.8960"),
        "EDSR baseline, its authors": ("37.99", "", ""),
    },
    3: {
        "ETDS-M, public, RGB": ("33.65 / 0.9211", "29.87 / 0.8330", "28.79 / 0.7969"),
        "ETDS-L, public, RGB": ("33.88 / 0.9232", "30.01 / 0.8356", "28.90 / 0.7997"),
        "VDSR, its paper": ("33.66 / 0.9213", "29.77 / 0.8314", "28.82 / 0.7976"),
    },
    4: {
        "ETDS-M, public, RGB": ("31.42 / 0.8837", "28.14 / 0.7703", "27.27 / 0.7251"),
        "ETDS-L, public, RGB": ("31.70 / 0.8883", "28.33 / 0.7749", "27.38 / 0.7287"),
        "VDSR, its paper": ("31.35 / 0.8838", "28.01 / 0.7674", "27.29 / 0.7251"),
        "EDSR baseline, its authors": ("32.09", "", ""),
        "SRResNet, its paper": ("32.05 / 0.9019", "28.49 / 0.8184", "27.58 / 0.7620"),
        "SRGAN without VGG, its paper": ("30.64 / 0.8701", "26.92 / 0.7611", ""),
    },
}

Result = dict[str, object]


def measured(name: str, scales: list[int], folders: list[str]) -> list[Result]:
    """Return what ``sr-eval`` says of one checkpoint."""
    model = name if name == "bicubic" else str(ROOT / f"train/pretrained/{name}.safetensors")
    command = ["sr-eval", model, "--data", *folders, "--scale", *map(str, scales), "--json", "-"]
    found: list[Result] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    return found


def table_of(scale: int, results: dict[tuple[str, int, str], Result]) -> str:
    """Return the Markdown table of one scale."""
    rows = [[f"x{scale}: PSNR dB / SSIM", *SETS]]
    for label, served in MODELS.items():
        if scale in served:
            found = [results[label, scale, folder] for folder in SETS]
            rows.append([label, *(f"{c['psnr_db']:.2f} / {c['ssim']:.4f}" for c in found)])
    rows += [[label, *cells] for label, cells in PAPERS[scale].items()]
    return table(rows, markdown=True)


def main() -> None:
    """Measure, print the tables, write ``quality.json``."""
    data = Path(sys.argv[1])
    results: dict[tuple[str, int, str], Result] = {}
    for label, served in MODELS.items():
        for name in dict.fromkeys(served.values()):
            scales = [scale for scale, other in served.items() if other == name]
            for row in measured(name, scales, [str(data / folder) for folder in SETS]):
                scale, folder = int(str(row["scale"])), Path(str(row["data"])).name
                results[label, scale, folder] = {**row, "model": label, "data": folder}
    print("\n\n".join(table_of(scale, results) for scale in SCALES))
    write_text(ROOT / "benchmarks/quality.json", json.dumps({"results": list(results.values())}, indent=2) + "\n")


if __name__ == "__main__":
    main()

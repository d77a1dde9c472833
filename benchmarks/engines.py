"""Time of one 256x256 tile on this machine's CPU: dense and pruned, fp32 and int8, taking turns in one run."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Export the pretrained networks, time them, print the table, write ``engines.json``."""
    with tempfile.TemporaryDirectory() as name:
        for model in ("vdsr", "vdsr_pruned"):
            checkpoint = str(ROOT / f"train/pretrained/{model}.safetensors")
            subprocess.run(
                ["sr-export", checkpoint, "-o", name, "--precision", "fp32", "int8"], check=True, stdout=subprocess.DEVNULL
            )
        engines = [f"{name}/{model}_{precision}.onnx" for model in ("vdsr", "vdsr_pruned") for precision in ("fp32", "int8")]
        output = str(ROOT / "benchmarks/engines.json")
        subprocess.run(["sr-bench", *engines, "--rounds", "25", "--json", output], check=True)


if __name__ == "__main__":
    main()

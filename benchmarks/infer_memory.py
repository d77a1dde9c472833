"""Peak memory and time of ``sr-infer`` on a 4000x3000 picture with the pruned int8 engine."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from sr_deploy.files import write_text

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Export the pruned network, enlarge one large picture, print the figures, write ``infer_memory.json``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = str(ROOT / "train/pretrained/vdsr_pruned.safetensors")
        subprocess.run(["sr-export", checkpoint, "-o", name, "--precision", "int8"], check=True, stdout=subprocess.DEVNULL)
        photograph = Image.open(ROOT / "tests/pictures/china.jpg").resize((4000, 3000), Image.Resampling.BICUBIC)
        photograph.save(folder / "large.png", compress_level=1)
        began = time.perf_counter()
        command = [sys.executable, "-m", "sr_deploy.runtime.command", "--engine", f"{name}/vdsr_pruned_int8.onnx"]
        child = subprocess.Popen([*command, str(folder / "large.png")], stdout=subprocess.DEVNULL)
        _, status, usage = _wait(child)
        if status:
            sys.exit(f"sr-infer failed with status {status}")
        figures = {
            "picture": "4000x3000 RGB",
            "scale": 2,
            "peak_mb": usage.ru_maxrss / 1024.0,
            "wall_s": time.perf_counter() - began,
        }
    print(json.dumps(figures, indent=2))
    write_text(ROOT / "benchmarks/infer_memory.json", json.dumps(figures, indent=2) + "\n")


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    return os.wait4(child.pid, 0)


if __name__ == "__main__":
    main()

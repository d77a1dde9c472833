"""Time and peak memory of deep and large pictures around an engine that costs next to nothing.

``python benchmarks/deep_pictures.py LABEL [--only NAME]``: each case is one ``sr-infer`` in a process of its own, the fastest
of some. The figures go into ``deep_pictures.json`` under LABEL, so that two states of the code stand side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.console import run, table
from sr_deploy.errors import MachineError
from sr_deploy.files import write_text
from sr_deploy.runtime.bench.machine import machine

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks/deep_pictures.json"
CASES = {  # pictures, (w, h), dtype, suffix, and the limit of memory that makes them streamed
    "10 PNG of 16 bits": (10, (900, 600), "u2", ".png", ""),
    "10 TIFF of 16 bits": (10, (900, 600), "u2", ".tif", ""),
    "TIFF of float32": (1, (2000, 1500), "f4", ".tif", ""),
    "50 JPEG": (50, (300, 200), "u1", ".jpg", ""),
    "JPEG, streamed": (1, (8000, 6000), "u1", ".jpg", "700M"),
    "PNG, streamed": (1, (3000, 2000), "u1", ".png", "330M"),
    "PNG of 16 bits, streamed": (1, (3000, 2000), "u2", ".png", "330M"),
    "TIFF of 16 bits, streamed": (1, (3000, 2000), "u2", ".tif", "330M"),
}


def photograph(size: tuple[int, int], dtype: str) -> NDArray[np.generic]:
    """Return a photograph of (w, h) with a little noise below 8 bits: (h, w, 3)."""
    image = Image.open(ROOT / "tests/pictures/china.jpg").convert("RGB").resize(size, Image.Resampling.BICUBIC)
    levels = np.asarray(image)
    if dtype == "u1":
        return levels
    fine = levels * np.float32(256) + np.random.default_rng(0).integers(0, 256, levels.shape, np.uint16)
    return np.asarray(fine / np.float32(65535) if dtype == "f4" else fine, dtype)


def make(folder: Path, name: str) -> list[Path]:
    """Write the pictures of a case."""
    count, (w, h), dtype, suffix, _ = CASES[name]
    pixels = photograph((w, h), dtype)
    options = {"compression": "deflate", "predictor": "horizontal" if dtype == "u2" else "none"} if suffix == ".tif" else {}
    paths = [folder / f"{number:02}{suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        pyvips.Image.new_from_array(np.roll(pixels, 37 * number, axis=1)).write_to_file(str(path), **options)
    return paths


def measured(engine: Path, name: str, rounds: int) -> dict[str, float]:
    """Return the figures of a case, the least of some rounds."""
    with tempfile.TemporaryDirectory() as place:
        paths = make(Path(place), name)
        command = [sys.executable, "-m", "sr_deploy.runtime.infer.command", "--engine", str(engine), "--threads", "1"]
        command += [
            "--scale",
            "2",
            "--overwrite",
            "-o",
            f"{place}/out",
            *(["--memory", CASES[name][-1]] if CASES[name][-1] else []),
        ]
        found = [once([*command, *map(str, paths)]) for _ in range(rounds)]
    return {key: round(min(one[key] for one in found), 2) for key in found[0]}


def once(command: list[str]) -> dict[str, float]:
    """Return what one process took."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise MachineError(f"{' '.join(command)}: failed with status {status}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"wall_s": time.perf_counter() - began, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1024.0}


def main() -> int:
    """Measure, print the table of all labels, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label")
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()

    def command() -> int:
        sys.path.insert(0, str(ROOT))
        from tests.runtime.tiny_onnx import write, zero_weights

        facts = json.loads(REPORT.read_text("utf-8")) if REPORT.exists() else {"results": {}}
        results = facts["results"].setdefault(arguments.label, {})
        with tempfile.TemporaryDirectory() as name:
            engine = write(Path(name) / "identity_fp32.onnx", zero_weights((1,)), (1, 1, 256, 256))
            for case in arguments.only:
                results[case] = measured(engine, case, arguments.rounds)
        rows = [
            [case, label, *(f"{found[case][key]:.2f}" for key in ("wall_s", "cpu_s")), f"{found[case]['peak_mb']:.0f}"]
            for case in CASES
            for label, found in facts["results"].items()
            if case in found
        ]
        print(table([["pictures", "code", "wall s", "CPU s", "peak MB"], *rows], markdown=True, left=2))
        write_text(REPORT, json.dumps({"machine": machine(), "results": facts["results"]}, indent=2) + "\n")
        return 0

    return run("deep_pictures.py", command)


if __name__ == "__main__":
    sys.exit(main())

"""Peak memory and time of pictures of one width and growing height, by rows and in memory.

Each picture is enlarged by ``sr-infer`` in a process of its own; its peak is the largest resident set that the system counted.
The network is small, two convolutions of 8 channels on 256x256 tiles, so that what is around it is measured. With
``--picture`` and ``--engine`` a file is measured instead, and added to the JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageChops

from sr_deploy.console import table
from sr_deploy.files import write_text
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.infer.command import main as sr_infer
from sr_deploy.runtime.large.estimate import band_bytes, in_memory_bytes
from sr_deploy.runtime.pictures.read import head_of

Image.MAX_IMAGE_PIXELS = None  # these pictures are made here
ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks/large.json"


def main() -> None:
    """Measure, print a table, write ``large.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--heights", type=int, nargs="+", default=[500, 1000, 2000, 4000], metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--picture", type=Path, help="a file instead of made ones; by rows alone")
    parser.add_argument("--engine", type=Path, help="default: a small one that is made")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = arguments.engine or small_engine(folder)
        if arguments.picture:
            results = [measure(engine, arguments.picture, folder / "out.jpg", by_rows=True)]
        else:
            results = sweep(engine, folder, arguments.width, arguments.heights)
    for result in results:
        result["engine"] = arguments.engine.stem if arguments.engine else "two convolutions"
    report(results)


def child(argv: list[str]) -> NoReturn:
    """Run ``sr-infer``, then say what this process took at most, in MB of 1024 * 1024 bytes."""
    code = sr_infer(argv)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    print(int(lines["VmHWM"].split()[0]) / 1024.0)
    sys.exit(code)


def small_engine(folder: Path) -> Path:
    """Write a network of two convolutions."""
    sys.path.insert(0, str(ROOT))
    from tests.runtime.tiny_onnx import random_weights, write

    return write(folder / "small_fp32.onnx", random_weights((8, 1)), (1, 1, 256, 256))


def sweep(engine: Path, folder: Path, width: int, heights: list[int]) -> list[dict[str, object]]:
    """Return the figures of every height, by rows and in memory."""
    photograph = np.asarray(Image.open(ROOT / "tests/pictures/china.jpg").convert("RGB"))
    results = []
    for height in heights:
        path, rows, whole = (folder / f"{name}.jpg" for name in (height, "rows", "whole"))
        copies = (-(-height // photograph.shape[0]), -(-width // photograph.shape[1]), 1)
        Image.fromarray(np.tile(photograph, copies)[:height, :width]).save(path, quality=90)
        results += [measure(engine, path, rows, by_rows=True), measure(engine, path, whole, by_rows=False)]
        with Image.open(rows) as one, Image.open(whole) as other:
            if ImageChops.difference(one, other).getbbox() is not None:
                sys.exit(f"height {height}: the pixels by rows are not those in memory")
    return results


def measure(engine: Path, picture: Path, output: Path, *, by_rows: bool) -> dict[str, object]:
    """Return the figures of one picture in a process of its own."""
    with closing(load(engine, threads=1)) as opened:
        head, scale = head_of(picture), opened.card.default_scale
        need, least = in_memory_bytes(head, opened.card, scale), band_bytes(head, opened.card, scale)
    memory = need - 1 if by_rows else 2 * need
    command = [sys.executable, __file__, "--child", "--engine", str(engine), "--memory", str(memory), "--overwrite"]
    began = time.perf_counter()
    done = subprocess.run([*command, str(picture), "-o", str(output)], check=True, stdout=subprocess.PIPE, text=True)
    h, w, c = head.shape
    return {
        "picture": f"{w}x{h}x{c}",
        "scale": scale,
        "way": "by rows" if by_rows else "in memory",
        "peak_mb": float(done.stdout.splitlines()[-1]),
        "estimate_mb": (least if by_rows else need) / 2**20,
        "samples_mb": head.nbytes * (1 + scale**2) / 2**20,
        "wall_s": time.perf_counter() - began,
    }


def report(results: list[dict[str, object]]) -> None:
    """Print the table, and put the results into the JSON in place of earlier ones of the same pictures."""
    rows = [["picture", "engine", "way", "samples, in and out", "estimate", "peak", "time"]]
    for result in results:
        sizes = (f"{float(str(result[key])):.0f} MB" for key in ("samples_mb", "estimate_mb", "peak_mb"))
        rows.append(
            [*(str(result[key]) for key in ("picture", "engine", "way")), *sizes, f"{float(str(result['wall_s'])):.0f} s"]
        )
    print(table(rows, markdown=True, left=3))
    before = json.loads(REPORT.read_text("utf-8"))["results"] if REPORT.exists() else []
    made = {(result["picture"], result["engine"], result["way"]): result for result in [*before, *results]}
    write_text(REPORT, json.dumps({"machine": machine(), "results": list(made.values())}, indent=2) + "\n")


if __name__ == "__main__":
    main()

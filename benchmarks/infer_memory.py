"""Time and peak memory of ``sr-infer`` on a JPEG of 12 megapixels, x2, by shipped engines.

``python benchmarks/infer_memory.py [ENGINE...]``; without names the default engine and the one that was the default before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from sr_deploy.console import run, table
from sr_deploy.errors import MachineError
from sr_deploy.files import write_text
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.engines.shipped import engine_path

ROOT = Path(__file__).resolve().parent.parent
SIZE, QUALITY, SCALE = (4000, 3000), 95, 2


def measured(engine: str, picture: Path) -> dict[str, object]:
    """Return the figures of one engine on one picture, in a process of its own."""
    command = [sys.executable, "-m", "sr_deploy.runtime.infer.command", "--engine", engine, "--scale", str(SCALE), str(picture)]
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, "-o", str(picture.with_name(f"{Path(engine).stem}_x{SCALE}.jpg"))], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise MachineError(f"sr-infer --engine {engine}: failed with status {status}")
    wall_s, cpu_s = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return {"engine": engine_path(engine, SCALE).stem, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1024.0}


def command() -> int:
    """Enlarge one large JPEG with each engine, print the table, write ``infer_memory.json``."""
    with tempfile.TemporaryDirectory() as name:
        picture = Path(name) / "large.jpg"
        photograph = Image.open(ROOT / "tests/pictures/china.jpg").resize(SIZE, Image.Resampling.BICUBIC)
        photograph.save(picture, quality=QUALITY)
        found = [measured(engine, picture) for engine in sys.argv[1:] or ["l", "edsr"]]
    rows = [[str(row["engine"]), *(f"{row[key]:.1f}" for key in ("wall_s", "cpu_s", "peak_mb"))] for row in found]
    print(table([["engine", "wall s", "CPU s", "peak MB"], *rows], markdown=True))
    facts = {"picture": f"{SIZE[0]}x{SIZE[1]} JPEG, quality {QUALITY}", "scale": SCALE, "machine": machine(), "results": found}
    write_text(ROOT / "benchmarks/infer_memory.json", json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("infer_memory.py", command))

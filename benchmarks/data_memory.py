"""Memory and speed of the training data with and without ``--cache``, on pictures of noise and gradients that it makes.

Each source is made and drawn from in a process of its own; for speed, both are in one process and take turns. Memory is what
the process took beyond its imports: *own* memory (anonymous pages), which the machine cannot take back, and *mapped* files,
which it drops when others need the room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.console import table
from sr_deploy.files import write_text
from sr_deploy.runtime.bench.machine import machine

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 2040, 1356  # of most of DIV2K
BATCH, ROUNDS, BATCHES = 16, 31, 10
SETTINGS: dict[str, dict[str, object]] = {
    "EDSR x2, RGB, patch 96": {"scales": (2,), "patch": 96, "shrink": (1.0,), "upscale": "inside", "colors": 3},
    "VDSR x2 x3 x4, luma, patch 41": {"scales": (2, 3, 4), "patch": 41, "shrink": (1.0, 0.7)},
}


def main() -> None:
    """Measure every setting in memory, as the cache is filled and as it is found; print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads that decode (default: %(default)s)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        task, setting, folder, cache = arguments.child
        if task == "speed":
            print(json.dumps(speed(setting, Path(folder), Path(cache), arguments.workers)))
        else:
            print(json.dumps(measure(setting, Path(folder), Path(cache) if cache else None, arguments.workers)))
        return
    results, speeds = [], []
    with tempfile.TemporaryDirectory() as name:
        pictures = Path(name) / "pictures"
        make_pictures(pictures, arguments.pictures)
        for number, setting in enumerate(SETTINGS):
            cache = f"{name}/{number}"
            for source, place in (("memory", ""), ("--cache, first", cache), ("--cache, later", cache)):
                found = in_child(["memory", setting, str(pictures), place], arguments.workers)
                results.append({"setting": setting, "source": source, **found})
            speeds.append({"setting": setting, **in_child(["speed", setting, str(pictures), cache], arguments.workers)})
    report(results, speeds, arguments.pictures)


def in_child(task: list[str], workers: int) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--workers", str(workers), "--child", *task]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make_pictures(folder: Path, number: int) -> None:
    """Write ``number`` PNG pictures of waves, with noise that a denoised photograph keeps."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for index in range(number):
        fx, fy = rng.uniform(0.002, 0.2, (2, 3)).astype(np.float32)
        waves = [128 + 80 * np.sin(x * fx[c] + index) * np.cos(y * fy[c]) for c in range(3)]
        pixels = np.stack(waves, -1) + rng.integers(-4, 5, (HEIGHT, WIDTH, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index:04}.png", compress_level=1)


def measure(setting: str, folder: Path, cache: Path | None, workers: int) -> dict[str, float]:
    """Return peaks in MB beyond the imports, and seconds until the source is ready."""
    from sr_deploy.train.data.batches import DataConfig, PatchSource

    before = status_mb()
    peaks, stop = dict(before), threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            for key, value in status_mb().items():
                peaks[key] = max(peaks[key], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    source = PatchSource(DataConfig((folder,), **SETTINGS[setting]), workers=workers, cache=cache)  # type: ignore[arg-type]
    ready = time.perf_counter() - began
    for step in range(BATCHES * ROUNDS):
        source.batch(size=BATCH, seed=0, step=step)
    stop.set()
    watcher.join()
    own, mapped = (peaks[key] - before[key] for key in ("RssAnon", "RssFile"))
    return {"own_mb": own, "mapped_mb": mapped, "ready_s": ready}


def speed(setting: str, folder: Path, cache: Path, workers: int) -> dict[str, float]:
    """Return patches a second of both sources, which take turns, the medians of rounds, and the median of their ratios."""
    from sr_deploy.train.data.batches import DataConfig, PatchSource

    config = DataConfig((folder,), **SETTINGS[setting])  # type: ignore[arg-type]
    sources = [PatchSource(config, workers=workers), PatchSource(config, workers=workers, cache=cache)]
    rates: list[list[float]] = [[], []]
    for round_number in range(ROUNDS):
        for source, found in zip(sources, rates, strict=True):
            began = time.perf_counter()
            for step in range(BATCHES):
                source.batch(size=BATCH, seed=round_number, step=step)
            found.append(BATCH * BATCHES / (time.perf_counter() - began))
    memory, cached = (np.array(found[1:]) for found in rates)  # the first round warms up
    return {
        "memory_patches_per_s": float(np.median(memory)),
        "cache_patches_per_s": float(np.median(cached)),
        "ratio": float(np.median(cached / memory)),
    }


def status_mb() -> dict[str, float]:
    """Return the resident memory of this process in MB (1024 * 1024 bytes), anonymous and of files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return {key: int(lines[key].split()[0]) / 1024.0 for key in ("RssAnon", "RssFile")}


def report(results: list[dict[str, object]], speeds: list[dict[str, object]], pictures: int) -> None:
    """Print both tables and write ``data_memory.json``."""
    rows = [["setting", "source", "own MB", "mapped MB", "ready in s"]]
    for result in results:
        own, mapped, ready = (float(str(result[key])) for key in ("own_mb", "mapped_mb", "ready_s"))
        rows.append([str(result["setting"]), str(result["source"]), f"{own:.0f}", f"{mapped:.0f}", f"{ready:.1f}"])
    print(f"{pictures} pictures of {WIDTH}x{HEIGHT}, batches of {BATCH} patches\n")
    print(table(rows, markdown=True, left=2))
    ratios = [[str(found["setting"]), f"{float(str(found['ratio'])):.2f}"] for found in speeds]
    print("\n" + table([["setting", "patches a second with --cache, of those in memory"], *ratios], markdown=True))
    document = {"machine": machine(), "pictures": pictures, "size": [WIDTH, HEIGHT], "results": results, "speeds": speeds}
    write_text(ROOT / "benchmarks/data_memory.json", json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

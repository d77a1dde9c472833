"""A folder of pictures through an engine: what decoding, tiles, the engine, colour and encoding take, and the whole.

``python benchmarks/folder.py ENGINE [--count 50 --size 500 350]``, with stages that overlap and with stages that take turns,
in one run. The pictures are cut from those of the repository, repeated where they are too small.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.console import run, table
from sr_deploy.files import list_pictures, write_text
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_engine import cores
from sr_deploy.runtime.bench.machine import processor
from sr_deploy.runtime.infer.folder import FolderRun
from sr_deploy.runtime.pictures.read import read_pixels

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "tiles", "engine", "colour", "encode", "write")


def make_pictures(folder: Path, *, count: int, size: tuple[int, int]) -> list[Path]:
    """Write ``count`` RGB pictures of (w, h) pixels with real content, all different."""
    sources = [read_pixels(path)[..., :3] for path in list_pictures(ROOT / "tests" / "pictures")]
    w, h = size
    paths = []
    for index in range(count):
        source = np.roll(sources[index % len(sources)], 37 * index, axis=(0, 1))
        source = np.repeat(source, 3, axis=2) if source.shape[2] == 1 else source
        tiled = np.tile(source, (-(-h // source.shape[0]), -(-w // source.shape[1]), 1))[:h, :w]
        paths.append(folder / f"{index:03}.png")
        Image.fromarray(tiled).save(paths[-1])
    return paths


def measure(engine: Engine, paths: list[Path], folder: Path, *, overlap: bool) -> dict[str, float]:
    """Return the seconds of each stage and of the whole; a stage's own include waiting for a core."""
    pairs = [(path, folder / path.name) for path in paths]
    run = FolderRun(engine, engine.card.default_scale, overwrite=True, overlap=overlap)
    for task in run.run(pairs):
        if task.error is not None:
            raise task.error
    wall = run.times.wall_s
    seconds = {stage: run.times.seconds[stage] for stage in STAGES}
    return {**seconds, "wall": wall}


def compare(engine_path: Path, *, count: int, size: tuple[int, int], rounds: int) -> dict[str, dict[str, float]]:
    """Return the figures with and without overlap, the fastest of some rounds that take turns."""
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, closing(load(engine_path, trusted=True)) as engine:
        paths = make_pictures(Path(name), count=count, size=size)
        measure(engine, paths[:1], Path(name) / "out", overlap=False)
        for _ in range(rounds):
            for label, overlap in (("overlap", True), ("turns", False)):
                found = measure(engine, paths, Path(name) / "out", overlap=overlap)
                if label not in best or found["wall"] < best[label]["wall"]:
                    best[label] = found
    alone = {stage: best["turns"][stage] for stage in STAGES}  # where stages overlap, waiting for each other would count as work
    for found in best.values():
        found["wall_over_engine"] = found["wall"] / alone["engine"]
        found["wall_over_slowest"] = found["wall"] / max(alone.values())
    return best


def main() -> int:
    """Measure, print the table and write it where asked."""
    parser = argparse.ArgumentParser(description="Time a folder of pictures through an engine, stage by stage.")
    parser.add_argument("engine", type=Path)
    parser.add_argument("--count", type=int, default=50, help="pictures (default: 50)")
    parser.add_argument("--size", type=int, nargs=2, default=[500, 350], metavar=("W", "H"), help="of each (default: 500 350)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    w, h = arguments.size

    def command() -> int:
        found = compare(arguments.engine, count=arguments.count, size=(w, h), rounds=arguments.rounds)
        columns = [*STAGES, "wall", "wall_over_engine", "wall_over_slowest"]
        print(table([["seconds", *columns], *([label, *(f"{f[c]:.2f}" for c in columns)] for label, f in found.items())]))
        facts = {"engine": arguments.engine.name, "processor": f"{cores()} cores of an {processor()}"}
        if arguments.json is not None:
            write_text(
                arguments.json, json.dumps({**facts, "count": arguments.count, "size": arguments.size, **found}, indent=2) + "\n"
            )
        return 0

    return run("folder", command)


if __name__ == "__main__":
    sys.exit(main())

"""What int8 exports cost: processor time of refinement with and without what it leaves out, and the peak memory of an export.

Both ways of refinement run in one process and in turns, on the same tiles, and must find the same thresholds. Times are of the
processor, not of the clock, so a machine may do other work beside. Memory is that of a process of its own, over a few tiles: more
take longer, but no more memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from sr_deploy.calib_data import folder
from sr_deploy.console import table
from sr_deploy.export.accuracy.selection import SelectionSet
from sr_deploy.export.accuracy.sensitivity import tile_shape
from sr_deploy.export.calibration import refine as refinement
from sr_deploy.export.calibration.activations import activations
from sr_deploy.export.graphs import suffix
from sr_deploy.export.graphs.narrow import narrow_tail
from sr_deploy.export.graphs.reading import convolution_nodes, halo
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.export.sessions import Sessions
from sr_deploy.export.settings import DEFAULT_METHOD
from sr_deploy.files import write_text
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.upscaling.tiling import evenly
from sr_deploy.thresholds import OUTPUT_KEY, choose
from sr_deploy.train.weights import checkpoint

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("srresnet", "vdsr")


def main() -> None:
    """Measure every network, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convolutions", type=int, default=4, metavar="N", help="that are refined (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=4, metavar="N", help="of calib_data/calibrate (default: %(default)s)")
    parser.add_argument("--side", type=int, default=96, metavar="N", help="pixels of a tile to refine on (default: %(default)s)")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in NETWORKS:
        path = ROOT / "train" / "pretrained" / f"{name}.safetensors"
        found = refining(path, arguments.convolutions, arguments.pictures, arguments.side)
        rows.append({"network": name, **found, "export_peak_gib": peak_gib(path)})
    heading = ["network", "convolutions refined", "all tiles and filters, CPU s", "CPU s", "share", "export, peak GiB"]
    keys = ("network", "convolutions", "plain_cpu_s", "cpu_s", "share", "export_peak_gib")
    print(table([heading, *([str(row[key]) for key in keys] for row in rows)]))
    content = {"command": " ".join(["export_cost.py", *sys.argv[1:]]), "machine": machine(), "exports": rows}
    write_text(ROOT / "benchmarks" / "export_cost.json", json.dumps(content, indent=2) + "\n")


def refining(path: Path, count: int, pictures: int, side: int) -> dict[str, object]:
    """Return the processor time of refining ``count`` convolutions of a network, both ways.

    Raises:
        AssertionError: they find different thresholds.
    """
    network, card = checkpoint.load(path)
    model = graph_from_network(network.folded(), (1, 1, side, side))
    photographs = Photographs(folder("calibrate"), "y")
    photographs.paths = dict(sorted(photographs.paths.items())[:pictures])
    samples = SelectionSet(
        photographs, Cut(card.scales, tile_shape((1, 1, side, side), halo(model), side=side), 400, card.upscale)
    )
    seen = activations(model, [sample.tile for sample in refinement.richest(samples, refinement.TILES)], Sessions())
    chosen = {node.name for node in evenly(convolution_nodes(model), count)}
    method = DEFAULT_METHOD[card.upscale]
    start = {name: choose(h, method, name=name) for name, h in seen.histograms.items() if name.removesuffix(OUTPUT_KEY) in chosen}
    plain_s, plain = timed(model, start, samples, seen.maxima, plain=True)
    quick_s, quick = timed(model, start, samples, seen.maxima, plain=False)
    assert quick == plain
    times = {"plain_cpu_s": round(plain_s, 1), "cpu_s": round(quick_s, 1), "share": round(quick_s / plain_s, 2)}
    return {"convolutions": len(chosen), "pictures": pictures, "side": samples.cut.shape[2], **times}


def timed(
    model: onnx.ModelProto, start: dict[str, float], samples: SelectionSet, maxima: dict[str, float], *, plain: bool
) -> tuple[float, dict[str, float]]:
    """Return the seconds of processor time that refinement takes, and what it finds; ``plain`` leaves nothing out."""
    refinement.CERTAIN = math.inf if plain else 1.0 + 1e-9
    suffix.narrow_tail = (lambda model: model) if plain else narrow_tail
    began = cpu_s()
    found = refinement.refine(model, start, samples, Sessions(), maxima=maxima)
    return cpu_s() - began, found


def cpu_s() -> float:
    """Return the processor time of this process in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_gib(path: Path) -> float:
    """Return the peak memory in GiB of an int8 export of a network in tiles of 256x256, away from its stored thresholds."""
    with tempfile.TemporaryDirectory() as name:
        copy = shutil.copy(path, name)
        options = ["--precision", "int8", "--calib-tiles", "2", "--correct-bias", "--no-refine"]
        command = [sys.executable, "-m", "sr_deploy.export.command", copy, "-o", name, *options]
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return round(used.ru_maxrss / 2**20, 2)


if __name__ == "__main__":
    main()

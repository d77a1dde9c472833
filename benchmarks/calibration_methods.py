"""What each calibration method and each refinement costs in PSNR: a table for each network, on tiles of Set5 and Set14.

``python benchmarks/calibration_methods.py DATA_DIR [MODEL...]``. The first and the last convolution stay in float, as the export
keeps them; nothing else is given back. A network of several scales is calibrated for all of them together. Integer graphs run in
exact integer arithmetic.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sr_deploy.console import table
from sr_deploy.export.accuracy.selection import SelectionSet, drops_db, psnr_db
from sr_deploy.export.calibration.bias import bias_shifts
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.command import parser
from sr_deploy.export.graphs.quantize import kept_by_default, quantized
from sr_deploy.export.int8 import refined_thresholds
from sr_deploy.export.job import Export
from sr_deploy.export.prepare import prepare
from sr_deploy.files import write_text
from sr_deploy.thresholds import METHODS, choose

ROOT = Path(__file__).resolve().parent.parent
SETS = ("set5", "set14")
MODELS = ("vdsr_pruned", "vdsr", "edsr", "srresnet")
TILES = 10  # a scale and set
REFINED = ("mse", "minmax")  # the methods that are refined too

Recipe = tuple[str, dict[str, float], dict[str, list[float]]]


def recipes(export: Export) -> Iterator[Recipe]:
    """Yield the name of each way to calibrate, its thresholds and its bias shifts."""
    threads = export.arguments.threads
    found = export.activations()
    for method in METHODS:
        thresholds = {name: choose(histogram, method, name=name) for name, histogram in found.histograms.items()}
        yield method, thresholds, {}
        if method in REFINED:
            yield f"{method}, bias", thresholds, bias_shifts(export.model, thresholds, export.tiles, threads=threads)
            facts = (export.graph_digest, export.tiles.digest, method, False, export.tiles.scales)
            better = refined_thresholds(export, Calibration(*facts, found.maxima, thresholds, {}))
            yield f"{method}, refined", better, {}
            yield f"{method}, refined, bias", better, bias_shifts(export.model, better, export.tiles, threads=threads)


def measure(model: str, data: Path, folder: str) -> list[dict[str, object]]:
    """Return one entry for each way to calibrate: the drop in dB by set and scale."""
    checkpoint = ROOT / f"train/pretrained/{model}.safetensors"
    export = prepare(parser().parse_args([str(checkpoint), "-o", folder]))
    threads, shape = export.arguments.threads, (1, *export.tiles.shape[1:])
    samples = {
        name: SelectionSet(data / name, scales=export.tiles.scales, shape=shape, limit=TILES, upscale=export.card.upscale)
        for name in SETS
    }
    reference = {name: psnr_db(export.model, one, threads=threads) for name, one in samples.items()}
    keep, record = kept_by_default(export.model), []
    for name, thresholds, shifts in recipes(export):
        graph = quantized(export.model, thresholds, keep=keep, shifts=shifts)
        drops = {s: drops_db(psnr_db(graph, one, threads=threads), reference[s]) for s, one in samples.items()}
        record.append({"model": model, "calibration": name, "drop_db": drops})
        print(record[-1], file=sys.stderr, flush=True)
    return record


def main() -> None:
    """Measure, print the tables, write ``calibration_methods.json``."""
    data, record = Path(sys.argv[1]), []
    for model in sys.argv[2:] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(model, data, folder)
        record += found
        drops: list[dict[str, dict[int, float]]] = [entry["drop_db"] for entry in found]  # type: ignore[misc]
        scales = list(drops[0][SETS[0]])
        heading = ["calibration", *(f"{name} x{scale}" for name in SETS for scale in scales)]
        rows = [
            [str(entry["calibration"]), *(f"{drop[name][scale]:.3f}" for name in SETS for scale in scales)]
            for entry, drop in zip(found, drops, strict=True)
        ]
        print(f"\n{model}, PSNR drop in dB\n\n" + table([heading, *rows], markdown=True))
    write_text(ROOT / "benchmarks/calibration_methods.json", json.dumps({"tiles": TILES, "results": record}, indent=2) + "\n")


if __name__ == "__main__":
    main()

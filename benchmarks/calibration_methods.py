"""What each calibration method and each refinement costs in PSNR: a table for each network, on tiles of Set5 and Set14.

``python benchmarks/calibration_methods.py DATA_DIR [MODEL...]``. The first and the last convolution stay in float, as the export
keeps them; nothing else stays in float. A network of several scales is calibrated for all of them together. Integer graphs run in
exact integer arithmetic.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from sr_deploy.console import table
from sr_deploy.export.accuracy.selection import Figures, SelectionSet, drops_db, psnr_db
from sr_deploy.export.calibration.bias import bias_shifts
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.graphs.quantize import kept_by_default, quantize
from sr_deploy.export.job import Export
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.photographs import Photographs
from sr_deploy.export.prepare import prepare
from sr_deploy.export.thresholds import refined_thresholds
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
    found, sessions = export.activations, export.sessions
    for method in METHODS:
        thresholds = {name: choose(histogram, method, name=name) for name, histogram in found.histograms.items()}
        yield method, thresholds, {}
        if method in REFINED:
            yield f"{method}, bias", thresholds, bias_shifts(export.model, thresholds, export.tiles, sessions)
            facts = (export.graph_digest, export.tiles.digest, method, False, export.tiles.cut.scales)
            better = refined_thresholds(export, Calibration(*facts, found.maxima, thresholds, {}))
            yield f"{method}, refined", better, {}
            yield f"{method}, refined, bias", better, bias_shifts(export.model, better, export.tiles, sessions)


def measure(model: str, data: Path, folder: str) -> list[dict[str, object]]:
    """Return one entry for each way to calibrate: the drop in dB by set and scale."""
    checkpoint = ROOT / f"train/pretrained/{model}.safetensors"
    export = prepare(checkpoint, ExportOptions(Path(folder)))
    cut = replace(export.tiles.cut, shape=(1, *export.settings.shape[1:]), limit=TILES)
    samples = {name: SelectionSet(Photographs(data / name, cut.color), cut) for name in SETS}

    def figures(graph: onnx.ModelProto, name: str) -> Figures:
        return psnr_db(export.sessions.open(graph, exact=True), samples[name])

    reference = {name: figures(export.model, name) for name in SETS}
    keep, record = kept_by_default(export.model), []
    for recipe, thresholds, shifts in recipes(export):
        graph = quantize(export.model, thresholds, keep=keep, shifts=shifts)
        drops = {name: drops_db(figures(graph, name), reference[name]) for name in SETS}
        record.append({"model": model, "calibration": recipe, "drop_db": drops})
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

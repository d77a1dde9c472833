"""One export in progress: what it has computed so far, and files that are written with their cards."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from sr_deploy.card import ModelCard
from sr_deploy.degrade import imresize
from sr_deploy.errors import CheckError
from sr_deploy.export.accuracy.sensitivity import LayerLoss
from sr_deploy.export.calibration.activations import Activations, activations
from sr_deploy.export.calibration.calibrate import Calibration, graph_digest_of, stored_calibration
from sr_deploy.export.calibration.learned import Learned
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import macs_by_convolution, serialized
from sr_deploy.files import write_bytes
from sr_deploy.runtime.backends.engine import CPU, Tiles
from sr_deploy.runtime.backends.onnx_engine import open_session

AGREEMENT_DB = {"fp16": 60.0, "int8": 30.0}  # below it a graph is broken, not merely worse
DEAD_MARGIN_DB = 1.0  # a graph must be closer to fp32's output than its own input is, or it does nothing of use
CHECK_TILES = 4


@dataclass
class Export:
    """One export in progress: the network, its fp32 graph, and where files go."""

    arguments: argparse.Namespace
    network: nn.Module
    card: ModelCard  # of the fp32 graph
    model: onnx.ModelProto
    tiles: CalibrationSet
    stem: str
    seen: Activations | None = None  # on the calibration tiles, once they went through the graph
    learned: Learned | None = None  # thresholds that the checkpoint brings along
    losses: list[LayerLoss] | None = None  # of the layers alone in int8, once they were measured
    looked: bool = False
    calibration: tuple[Calibration, Path] | None = None  # of an earlier equal export, once it was looked for

    @property
    def macs(self) -> dict[str, int]:
        """Multiplications by convolution."""
        return macs_by_convolution(self.model)

    @property
    def graph_digest(self) -> str:
        """The digest of the fp32 graph."""
        return graph_digest_of(self.model)

    @property
    def refinements(self) -> tuple[str, ...]:
        """What is to be done to thresholds beyond the method, in the words of :class:`Calibration`."""
        asked = (("refined", self.arguments.refine), ("bias corrected", self.arguments.correct_bias))
        return tuple(name for name, wanted in asked if wanted)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where thresholds and decisions of earlier exports are looked for: where this one writes, and beside the checkpoint."""
        return self.arguments.output, self.arguments.checkpoint.parent

    def stored(self) -> tuple[Calibration, Path] | None:
        """Return the thresholds of an earlier equal export and their file; a file that differs is named once."""
        if not self.looked:
            self.looked = True
            paths = [place / f"{self.stem}_int8.thresholds.json" for place in self.folders]
            self.calibration = stored_calibration(
                paths,
                graph_digest=self.graph_digest,
                tiles=self.tiles,
                method=self.arguments.method,
                refinements=self.refinements,
            )
        return self.calibration

    def activations(self) -> Activations:
        """Return what flows through the fp32 graph on the calibration tiles, measured once."""
        if self.seen is None:
            self.seen = activations(self.model, self.tiles, threads=self.arguments.threads)
        return self.seen

    def ranges(self) -> dict[str, float]:
        """Return the largest magnitude of every value, measured, or read from the thresholds of an equal export."""
        found = None if self.arguments.thresholds is not None or self.learned is not None else self.stored()
        return found[0].maxima if found else self.activations().maxima


def write(export: Export, model: onnx.ModelProto, card: ModelCard) -> None:
    """Check a graph against the fp32 graph and write it with its card.

    Raises:
        CheckError: its output is broken; nothing is written.
    """
    if card.precision != "fp32":
        agreement, untouched = agreement_db(export, model)
        limit = max(AGREEMENT_DB[card.precision], untouched + DEAD_MARGIN_DB)
        if not agreement >= limit:
            raise CheckError(
                f"{export.stem}_{card.precision}: agrees with fp32 by {agreement:.1f} dB only, the limit is {limit:.1f} dB "
                f"(its own input reaches {untouched:.1f} dB); add photographs with --calib or keep layers with --keep"
            )
    path = export.arguments.output / f"{export.stem}_{card.precision}.onnx"
    write_bytes(path, serialized(model, card, source=str(path)))
    print(f"{path}: written")


def agreement_db(export: Export, model: onnx.ModelProto) -> tuple[float, float]:
    """Return the PSNR in dB (peak 1) against the fp32 graph's output on a few calibration tiles: of a graph, of its input.

    The second is what a network that does nothing reaches, or bicubic enlargement in place of one that enlarges.
    """
    threads = export.arguments.threads
    sessions = [open_session(m.SerializeToString(), [CPU], threads) for m in (model, export.model)]
    errors: list[tuple[float, float]] = []
    for tile in export.tiles.some(CHECK_TILES):
        output, expected = (np.asarray(s.run(None, {INPUT: tile})[0], np.float64) for s in sessions)
        given = tile if export.card.upscale == "before" else enlarged(tile, export.card.default_scale)
        untouched = np.square(given - expected).mean()
        errors.append((float(np.square(output - expected).mean()), float(untouched)))
    ours, trivial = (psnr_of(float(np.mean(column))) for column in zip(*errors, strict=True))
    return ours, trivial


def enlarged(tiles: Tiles, scale: int) -> Tiles:
    """Return tiles enlarged by bicubic: float32 (n, c, scale * h, scale * w)."""
    return np.stack([imresize(tile, float(scale)) for tile in tiles])


def psnr_of(error: float) -> float:
    """Return the PSNR in dB (peak 1) of a mean squared error; -inf where it is no finite number."""
    return float(-10.0 * np.log10(max(error, 1e-20))) if np.isfinite(error) else float("-inf")

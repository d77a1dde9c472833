"""One export in progress: what it has computed so far, and files that are written with their cards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from sr_deploy.card import ModelCard
from sr_deploy.degrade import imresize
from sr_deploy.errors import CheckError
from sr_deploy.export.calibration.activations import Activations, activations
from sr_deploy.export.calibration.calibrate import Calibration, stored_calibration
from sr_deploy.export.calibration.learned import Learned
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import digest_of, macs_by_convolution, serialize
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.photographs import Photographs
from sr_deploy.export.sessions import Sessions
from sr_deploy.export.settings import Settings
from sr_deploy.files import write_bytes
from sr_deploy.notes import LINES
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.train.networks.network import Network

AGREEMENT_DB = {"fp16": 60.0, "int8": 30.0}  # below it a graph is broken, not merely worse
DEAD_MARGIN_DB = 1.0  # a graph must be closer to fp32's output than its own input is, or it does nothing of use
CHECK_TILES = 4


@dataclass(frozen=True, eq=False)
class Export:
    """One export: a network, its fp32 graph, what it is looked at with, and where files go; what takes long is computed once."""

    checkpoint: Path
    options: ExportOptions
    settings: Settings
    network: Network
    card: ModelCard  # of the fp32 graph
    model: onnx.ModelProto
    tiles: CalibrationSet
    selection: Photographs | None  # to measure on; None: nothing is measured
    learned: Learned | None  # thresholds that the checkpoint brings along
    stem: str  # of the files
    sessions: Sessions

    @cached_property
    def macs(self) -> dict[str, int]:
        """Multiplications by convolution."""
        return macs_by_convolution(self.model)

    @cached_property
    def graph_digest(self) -> str:
        """The digest of the fp32 graph."""
        return digest_of(self.model)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where thresholds and decisions of earlier exports are looked for: where this one writes, and beside the checkpoint."""
        return self.options.output, self.checkpoint.parent

    @cached_property
    def stored(self) -> tuple[Calibration, Path] | None:
        """The thresholds of an earlier equal export and their file; a line names one that differs."""
        return stored_calibration(
            [folder / f"{self.stem}_int8.thresholds.json" for folder in self.folders],
            graph_digest=self.graph_digest,
            tiles=self.tiles,
            method=self.settings.method,
            refinements=self.settings.refinements,
        )

    @cached_property
    def activations(self) -> Activations:
        """What flows through the fp32 graph on the calibration tiles."""
        return activations(self.model, self.tiles, self.sessions)

    def ranges(self) -> dict[str, float]:
        """Return the largest magnitude of every value, measured, or read from the thresholds of an equal export."""
        stored = None if self.options.thresholds is not None or self.learned is not None else self.stored
        return stored[0].maxima if stored else self.activations.maxima


def write(export: Export, model: onnx.ModelProto, card: ModelCard) -> Path:
    """Check a graph against the fp32 graph, write it with its card and return its file.

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
    path = export.options.output / f"{export.stem}_{card.precision}.onnx"
    write_bytes(path, serialize(model, card, source=str(path)))
    LINES.info(f"{path}: written")
    return path


def agreement_db(export: Export, model: onnx.ModelProto) -> tuple[float, float]:
    """Return the PSNR in dB (peak 1) against the fp32 graph's output on a few calibration tiles: of a graph, of its input.

    The second is what a network that does nothing reaches, or bicubic enlargement in place of one that enlarges.
    """
    sessions = export.sessions.open(model), export.sessions.kept(export.model)
    errors: list[tuple[float, float]] = []
    for tile in export.tiles.some(CHECK_TILES):
        output, expected = (np.asarray(s.run(None, {INPUT: tile})[0], np.float64) for s in sessions)
        given = tile if export.card.upscale == "before" else enlarge_tiles(tile, export.card.default_scale)
        untouched = np.square(given - expected).mean()
        errors.append((float(np.square(output - expected).mean()), float(untouched)))
    ours, trivial = (psnr_of(float(np.mean(column))) for column in zip(*errors, strict=True))
    return ours, trivial


def enlarge_tiles(tiles: Tiles, scale: int) -> Tiles:
    """Return tiles enlarged by bicubic: float32 (n, c, scale * h, scale * w)."""
    return np.stack([imresize(tile, float(scale)) for tile in tiles])


def psnr_of(error: float) -> float:
    """Return the PSNR in dB (peak 1) of a mean squared error; -inf where it is no finite number."""
    return float(-10.0 * np.log10(max(error, 1e-20))) if np.isfinite(error) else float("-inf")

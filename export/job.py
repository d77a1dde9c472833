"""One export in progress: the checkpoint as a checked fp32 graph, the photographs beside it, and files written with cards."""

from __future__ import annotations

import argparse
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from sr_deploy import __version__
from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard, Shape
from sr_deploy.degrade import Upscale, imresize
from sr_deploy.errors import CheckError, InputError
from sr_deploy.export.accuracy.sensitivity import LayerLoss
from sr_deploy.export.calibration.activations import Activations, activations
from sr_deploy.export.calibration.calibrate import Calibration, CalibrationSet, graph_digest_of, stored_calibration
from sr_deploy.export.calibration.learned import Learned, learned_from
from sr_deploy.export.graphs.model import INPUT, shapes_of
from sr_deploy.export.graphs.quantize import check_names
from sr_deploy.export.graphs.reading import convolution_nodes, halo, macs_by_convolution, serialized
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.preflight import check_apart, check_places
from sr_deploy.files import write_bytes
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.train.networks.registry import folded, taken_at
from sr_deploy.train.weights import checkpoint

TOLERANCE = 1e-4  # fp32 graph against PyTorch
AGREEMENT_DB = {"fp16": 60.0, "int8": 30.0}  # below it a graph is broken, not merely worse
DEAD_MARGIN_DB = 1.0  # a graph must be closer to fp32's output than its own input is, or it does nothing of use
CHECK_TILES = 4
# A residual stream carries the picture's brightness, which clipping shifts: see docs/models.md.
DEFAULT_METHOD: dict[Upscale, str] = {"before": "mse", "inside": "minmax"}
MOST_SIDE, MOST_PIXELS = 16384, 2**26


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


def prepare(arguments: argparse.Namespace) -> Export:
    """Load the checkpoint, make its graph and check it against PyTorch on a photograph.

    Raises:
        InputError: a bad option or file.
        CheckError: the graph computes something else than the network.
    """
    check_places(arguments)
    whole, served = checkpoint.load(arguments.checkpoint)
    learned = learned_from(served, arguments)
    for option, value in (("--refine", arguments.refine), ("--correct-bias", arguments.correct_bias)):
        if value is not None and (arguments.thresholds is not None or learned is not None):
            source = arguments.thresholds or f"{arguments.checkpoint}, which learned them,"
            raise InputError(f"{option}: the thresholds of {source} are used as they are; leave it out")
    best = arguments.method is None  # a method that is named comes plain, unless more is asked for
    arguments.method = arguments.method or DEFAULT_METHOD[served.upscale]
    arguments.refine = best if arguments.refine is None else arguments.refine
    arguments.correct_bias = best if arguments.correct_bias is None else arguments.correct_bias
    shape = _shape(arguments.shape, served)
    scale = served.default_scale if arguments.scale is None else arguments.scale
    if scale not in served.scales:
        raise InputError(
            f"--scale {scale}: {arguments.checkpoint} serves {', '.join(map(str, served.scales))}; choose one of them"
        )
    network, parent = taken_at(whole, served, scale)
    if min(shape[2:]) <= 2 * parent.halo:
        least = 2 * parent.halo + 1
        raise InputError(
            f"--shape {' '.join(map(str, shape))}: not larger than twice the halo of {parent.halo} pixels; {least} is the least"
        )
    scales = parent.scales if arguments.scale is None else (scale,)  # together, unless one is asked for
    tiles = CalibrationSet(
        arguments.calib or folder("calibrate"), scales=scales, shape=shape, limit=arguments.calib_tiles, upscale=parent.upscale
    )
    for line in tiles.skipped:
        print(f"warning: left out: {line}")
    check_apart(arguments, tiles)
    model = graph_from_network(folded(network), shape)
    check_names(model, set(arguments.keep))
    reach = halo(model)
    if min(shape[2:]) <= 2 * reach:
        raise InputError(
            f"--shape {' '.join(map(str, shape))}: not larger than twice the halo of {reach} pixels; use at least {2 * reach + 1}"
        )
    card = parent.with_changes(
        halo=reach,
        input_shape=shape,
        output_shape=shapes_of(model)[1],
        macs=sum(macs_by_convolution(model).values()),
        opset=model.opset_import[0].version,
        precision="fp32",
        default_scale=scale,
        layers={node.name: "fp32" for node in convolution_nodes(model)},
        thresholds={},  # of the checkpoint; what a graph has stands in it
        keep=(),
        parent_digest=parent.digest,
        versions={**parent.versions, "sr-deploy": __version__, **{p: importlib.metadata.version(p) for p in ("torch", "onnx")}},
    )
    suffix = "" if scale == served.default_scale else f"_x{scale}"
    export = Export(arguments, network, card, model, tiles, arguments.checkpoint.stem + suffix, learned=learned)
    check_against_torch(export)
    return export


def check_against_torch(export: Export) -> None:
    """Compare the fp32 graph with PyTorch on the first calibration tile.

    Raises:
        CheckError: they differ by more than ``TOLERANCE``.
    """
    tile = next(iter(export.tiles))
    with torch.no_grad():
        expected = export.network(torch.from_numpy(tile)).numpy()
    worst = float(np.abs(_run(export.model, tile, export.arguments.threads) - expected).max())
    if not worst <= TOLERANCE:
        raise CheckError(
            f"{export.stem}: the graph differs from PyTorch by {worst:.1e}, the limit is {TOLERANCE:.0e}; report this"
        )
    print(f"{export.stem}: largest difference between graph and PyTorch {worst:.1e} on a photograph (limit 1e-04)")


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
    sessions = [open_session(m.SerializeToString(), ["CPUExecutionProvider"], threads) for m in (model, export.model)]
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


def _run(model: onnx.ModelProto, tile: Tiles, threads: int | None) -> Tiles:
    session = open_session(model.SerializeToString(), ["CPUExecutionProvider"], threads)
    return np.asarray(session.run(None, {INPUT: tile})[0], np.float32)


def _shape(values: list[int] | None, card: ModelCard) -> Shape:
    channels = 1 if card.color == "y" else 3
    n, c, h, w = values or (1, channels, 256, 256)
    if max(n, c, h, w) > MOST_SIDE or n * h * w > MOST_PIXELS:
        raise InputError(
            f"--shape {n} {c} {h} {w}: larger than a tile may be ({MOST_SIDE} a side, {MOST_PIXELS:,} pixels in all); "
            "pictures of any size go through in tiles, 256 256 is usual"
        )
    if min(n, c, h, w) < 1 or c != channels:
        raise InputError(
            f"--shape {n} {c} {h} {w}: this network takes {channels} channel(s) and sides of at least 1, as 1 {channels} 256 256"
        )
    return n, c, h, w

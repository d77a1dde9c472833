"""What ``sr-export`` does once its arguments are read: one checked file after another."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn

from sr_deploy import __version__
from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard, Precision, Shape
from sr_deploy.degrade import Upscale, imresize
from sr_deploy.errors import CheckError, InputError
from sr_deploy.export.calibrate import (
    Calibration,
    CalibrationSet,
    calibrate,
    check_same,
    graph_digest_of,
    largest_magnitudes,
    read_calibration,
)
from sr_deploy.export.graph import OUTPUT_KEY, convolution_nodes, halo, macs_by_convolution, serialized
from sr_deploy.export.half import half_precision, nodes_that_may_overflow
from sr_deploy.export.learned import Learned, learned_from
from sr_deploy.export.model import INPUT, shapes_of
from sr_deploy.export.quantize import check_names, kept_by_default, quantized
from sr_deploy.export.tensorrt_calibration import is_cache, thresholds_of
from sr_deploy.export.to_onnx import graph_from_network
from sr_deploy.files import digest_bytes, write_bytes
from sr_deploy.runtime.engine import Tiles
from sr_deploy.runtime.onnx_engine import open_session
from sr_deploy.runtime.tiling import useful_share
from sr_deploy.train import checkpoint
from sr_deploy.train.networks import folded, taken_at

TOLERANCE = 1e-4  # fp32 graph against PyTorch
AGREEMENT_DB = {"fp16": 60.0, "int8": 30.0}  # below it a graph is broken, not merely worse
DEAD_MARGIN_DB = 1.0  # a graph must be closer to fp32's output than its own input is, or it does nothing of use
CHECK_TILES = 4
# A residual stream carries the picture's brightness, which clipping shifts: see docs/models.md.
DEFAULT_METHOD: dict[Upscale, str] = {"before": "kl-weighted", "inside": "minmax"}
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
    maxima: dict[str, float] | None = None
    learned: Learned | None = None  # thresholds that the checkpoint brings along

    @property
    def macs(self) -> dict[str, int]:
        """Multiplications by convolution."""
        return macs_by_convolution(self.model)

    def ranges(self) -> dict[str, float]:
        """Return the largest magnitude of every value, measured once."""
        if self.maxima is None:
            self.maxima = largest_magnitudes(self.model, self.tiles, threads=self.arguments.threads)
        return self.maxima


def export_command(arguments: argparse.Namespace) -> int:
    """Export as the command line asks and return the exit code."""
    export = prepare(arguments)
    share = useful_share(export.card)
    print(f"{export.stem}: halo {export.card.halo} pixels, {100 * share:.0f} % of a tile is useful")
    if share < 0.4:
        side = side_for_share(export.card.halo, 0.7)
        shape = f"1 {export.card.input_shape[1] if export.card.input_shape else 1} {side} {side}"
        print(f"warning: below 40 %, tiles are mostly computed twice; --shape {shape} reaches 70 %")
    steps: dict[str, Callable[[Export], None]] = {"fp32": export_fp32, "fp16": export_fp16, "int8": export_int8}
    for precision in dict.fromkeys(arguments.precision):
        steps[precision](export)
    return 0


def side_for_share(halo: int, share: float) -> int:
    """Return the least multiple of 32 whose square tile is useful to at least ``share`` (0 to 1) at this halo in pixels."""
    return math.ceil(2 * halo / (1.0 - math.sqrt(share)) / 32.0) * 32


def prepare(arguments: argparse.Namespace) -> Export:
    """Load the checkpoint, make its graph and check it against PyTorch on a photograph.

    Raises:
        InputError: a bad option or file.
        CheckError: the graph computes something else than the network.
    """
    whole, served = checkpoint.load(arguments.checkpoint)
    learned = learned_from(served, arguments)
    arguments.method = arguments.method or DEFAULT_METHOD[served.upscale]
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
    tiles = CalibrationSet(
        arguments.calib or folder("calibrate"), scale=scale, shape=shape, limit=arguments.calib_tiles, upscale=parent.upscale
    )
    for line in tiles.skipped:
        print(f"warning: left out: {line}")
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


def export_fp32(export: Export) -> None:
    """Write the fp32 graph."""
    write(export, export.model, export.card)


def export_fp16(export: Export) -> None:
    """Write the fp16 graph; nodes that could overflow stay fp32 and are named."""
    risky = nodes_that_may_overflow(export.model, export.ranges())
    for name in risky:
        print(f"{export.stem}: {name} could overflow float16 and stays fp32")
    model = half_precision(export.model, keep=frozenset(risky))
    layers: dict[str, Precision] = {n: "fp32" if n in risky else "fp16" for n in export.card.layers}
    write(export, model, export.card.with_changes(precision="fp16", layers=layers))


def export_int8(export: Export) -> None:
    """Calibrate, or take stored thresholds, and write the int8 graph."""
    calibration = thresholds_for(export)
    keep = frozenset(export.arguments.keep)
    if export.learned is not None:
        keep |= export.learned.keep & export.card.layers.keys()
    elif not export.arguments.all_layers:
        keep |= kept_by_default(export.model)
    # What --keep names reads float activations too: they, not the weights, are what int8 loses.
    thresholds = {n: t for n, t in calibration.thresholds.items() if n.removesuffix(OUTPUT_KEY) not in export.arguments.keep}
    model = quantized(export.model, thresholds, keep=keep)
    layers: dict[str, Precision] = {n: "fp32" if n in keep else "int8" for n in export.card.layers}
    share = sum(m for n, m in export.macs.items() if n not in keep) / sum(export.macs.values())
    print(f"{export.stem}: {100 * share:.1f} % of the multiplications in int8, fp32: {', '.join(n for n in layers if n in keep)}")
    changes = {
        "precision": "int8",
        "layers": layers,
        "calibrated_scale": calibration.scale,
        "calibration": calibration.method,
        "thresholds_digest": calibration.digest,
    }
    if export.learned is not None:
        changes["calibrated_scale"] = export.learned.calibrated_scale(calibration.scale)
    write(export, model, export.card.with_changes(**changes))


def thresholds_for(export: Export) -> Calibration:
    """Return thresholds: those that were learned, from ``--thresholds``, from an earlier equal export, or newly calibrated."""
    digest, arguments = graph_digest_of(export.model), export.arguments
    path = arguments.output / f"{export.stem}_int8.thresholds.json"
    if export.learned is not None:
        found = export.learned.calibration(digest, export.tiles.scale, export.card.layers)
        found.write(path)
        print(f"{path}: {len(found.thresholds)} thresholds that {arguments.checkpoint} learned; nothing is calibrated")
        return found
    if arguments.thresholds is not None and is_cache(arguments.thresholds):
        thresholds = thresholds_of(arguments.thresholds, export.model)
        print(f"{arguments.thresholds}: TensorRT's thresholds; which pictures they were made from is not known")
        return Calibration(digest, digest_bytes(arguments.thresholds.read_bytes()), "tensorrt", export.tiles.scale, thresholds)
    if arguments.thresholds is not None:
        stored = read_calibration(arguments.thresholds)
        check_same(stored, digest, export.tiles, arguments.method, source=str(arguments.thresholds))
        return stored
    if path.exists():
        try:
            stored = read_calibration(path)
            check_same(stored, digest, export.tiles, arguments.method, source=str(path))
        except InputError as err:
            print(f"not reused, calibrating again: {err}")
        else:
            print(f"{path}: reused, made from the same graph and pictures")
            return stored
    made = calibrate(
        export.model, digest, export.tiles, method=arguments.method, maxima=export.ranges(), threads=arguments.threads
    )
    made.write(path)
    print(f"{path}: {len(made.thresholds)} thresholds by {made.method} from {len(export.tiles)} tiles")
    return made


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

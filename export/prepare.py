"""From a checkpoint to the checked fp32 graph that an export begins with."""

from __future__ import annotations

import argparse
import importlib.metadata

import numpy as np
import onnx
import torch

from sr_deploy import __version__
from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard, Shape
from sr_deploy.degrade import Upscale
from sr_deploy.errors import CheckError, InputError
from sr_deploy.export.calibration.learned import learned_from
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.model import INPUT, shapes_of
from sr_deploy.export.graphs.quantize import check_names
from sr_deploy.export.graphs.reading import convolution_nodes, halo, macs_by_convolution
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.job import Export
from sr_deploy.export.preflight import check_apart, check_places
from sr_deploy.runtime.backends.engine import CPU, Tiles
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.train.networks.registry import folded, taken_at
from sr_deploy.train.weights import checkpoint

TOLERANCE = 1e-4  # fp32 graph against PyTorch
# A residual stream carries the picture's brightness, which clipping shifts: see docs/models.md.
DEFAULT_METHOD: dict[Upscale, str] = {"before": "mse", "inside": "minmax"}
MOST_SIDE, MOST_PIXELS = 16384, 2**26


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


def _run(model: onnx.ModelProto, tile: Tiles, threads: int | None) -> Tiles:
    session = open_session(model.SerializeToString(), [CPU], threads)
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

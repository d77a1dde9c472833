"""From a checkpoint to the checked fp32 graph that an export begins with, step by step."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from sr_deploy import __version__
from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard
from sr_deploy.detail import check_detail
from sr_deploy.errors import CheckError
from sr_deploy.export.calibration.learned import Learned, learned_from
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.model import INPUT, shapes_of
from sr_deploy.export.graphs.quantize import check_names
from sr_deploy.export.graphs.reading import convolution_nodes, halo, macs_by_convolution
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.job import Export
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.export.preflight import check_apart, check_places
from sr_deploy.export.sessions import Sessions
from sr_deploy.export.settings import Settings, check_halo, settings_for
from sr_deploy.measure import luma_of
from sr_deploy.notes import LINES, NOTES
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import taken_at
from sr_deploy.train.weights import checkpoint

LEAST_TILES = 4  # to calibrate on
TOLERANCE = 1e-4  # fp32 graph against PyTorch


@dataclass(frozen=True)
class Source:
    """A checkpoint as it was read, and what is to become of it."""

    network: Network
    card: ModelCard
    learned: Learned | None
    settings: Settings


def prepare(path: Path, options: ExportOptions) -> Export:
    """Load a checkpoint, make its graph and check it against PyTorch on a photograph.

    Raises:
        InputError: a bad option or file.
        CheckError: the graph computes something else than the network.
    """
    check_places(options)
    source = load_source(path, options)
    settings = source.settings
    network, card = taken_at(source.network, source.card, settings.scale)
    check_halo(settings.shape, card.halo)
    tiles = calibration_tiles(card, settings, options, checked=source.learned is None)
    selection = selection_photographs(tiles, options)
    model = graph_from_network(network.folded(), settings.shape)
    check_names(model, set(options.keep))
    card = card_of_graph(model, card, settings)
    check_halo(settings.shape, card.halo)
    stem = path.stem if settings.scale == source.card.default_scale else f"{path.stem}_x{settings.scale}"
    sessions = Sessions(options.threads)
    export = Export(path, options, settings, network, card, model, tiles, selection, source.learned, stem, sessions)
    check_against_torch(export)
    return export


def load_source(path: Path, options: ExportOptions) -> Source:
    """Return the network of a checkpoint, and the options with what was not given.

    Raises:
        InputError: it is damaged, or does not have what is asked for.
    """
    network, card = checkpoint.load(path)
    learned = learned_from(path, card, options)
    return Source(network, card, learned, settings_for(path, card, learned, options))


def calibration_tiles(card: ModelCard, settings: Settings, options: ExportOptions, *, checked: bool) -> CalibrationSet:
    """Return the photographs to calibrate on, cut into tiles; a note names each that is left out, and one says if they are few.

    Nothing is ``checked`` where they choose no thresholds.
    """
    scales = card.scales if options.scale is None else (settings.scale,)  # together, unless one is asked for
    cut = Cut(scales, settings.shape, options.calib_tiles, card.upscale)
    tiles = CalibrationSet(Photographs(options.calib or folder("calibrate"), cut.color), cut)
    for line in tiles.skipped:
        NOTES.warning(f"left out: {line}")
    if checked and ("int8" in options.precisions or "fp16" in options.precisions or options.sensitivity):
        seen = (luma_of(np.float32(255.0) * (tile[0, 0] if tile.shape[1] == 1 else tile[0])) for tile in tiles)
        check_detail(seen, str(tiles.photographs.folder), least=LEAST_TILES, advice="name a folder of photographs with --calib")
    return tiles


def selection_photographs(tiles: CalibrationSet, options: ExportOptions) -> Photographs | None:
    """Return the photographs to measure on, where anything is measured.

    Raises:
        InputError: thresholds are made from one of them.
    """
    if not options.measures:
        return None
    found = Photographs(options.select or folder("select"), tiles.cut.color)
    check_apart(found, tiles.photographs)
    return found


def card_of_graph(model: onnx.ModelProto, card: ModelCard, settings: Settings) -> ModelCard:
    """Return the card of the fp32 graph ``model`` of the checkpoint that has ``card``."""
    packages = {package: importlib.metadata.version(package) for package in ("torch", "onnx")}
    return card.with_changes(
        halo=halo(model),
        input_shape=settings.shape,
        output_shape=shapes_of(model)[1],
        macs=sum(macs_by_convolution(model).values()),
        opset=model.opset_import[0].version,
        precision="fp32",
        default_scale=settings.scale,
        layers={node.name: "fp32" for node in convolution_nodes(model)},
        thresholds={},  # of the checkpoint; what a graph has stands in it
        keep=(),
        parent_digest=card.digest,
        versions={**card.versions, "sr-deploy": __version__, **packages},
    )


def check_against_torch(export: Export) -> None:
    """Compare the fp32 graph with PyTorch on the first calibration tile.

    Raises:
        CheckError: they differ by more than ``TOLERANCE``.
    """
    tile = next(iter(export.tiles))
    with torch.no_grad():
        expected = export.network(torch.from_numpy(tile)).numpy()
    output = export.sessions.kept(export.model).run(None, {INPUT: tile})[0]
    worst = float(np.abs(output - expected).max())
    if not worst <= TOLERANCE:
        raise CheckError(
            f"{export.stem}: the graph differs from PyTorch by {worst:.1e}, the limit is {TOLERANCE:.0e}; report this"
        )
    LINES.info(f"{export.stem}: largest difference between graph and PyTorch {worst:.1e} on a photograph (limit 1e-04)")

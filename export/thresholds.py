"""The thresholds of one export: learned, from a file, of an earlier equal export, or newly calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.export.accuracy.selection import SelectionSet
from sr_deploy.export.accuracy.sensitivity import tile_shape
from sr_deploy.export.calibration.bias import bias_shifts
from sr_deploy.export.calibration.calibrate import Calibration, calibrate, check_same, read_calibration
from sr_deploy.export.calibration.refine import refine
from sr_deploy.export.job import Export
from sr_deploy.export.photographs import Cut
from sr_deploy.export.plans.calibration import is_cache, thresholds_of
from sr_deploy.files import digest_bytes
from sr_deploy.notes import LINES, NOTES

REFINE_SIDE, REFINE_TILES = 96, 400  # pixels of a tile; tiles a scale, of which the richest are used


def thresholds_for(export: Export) -> Calibration:
    """Return the thresholds that an export asks for; new ones are written."""
    path = export.options.output / f"{export.stem}_int8.thresholds.json"
    if export.learned is not None:
        learned = export.learned.calibration(export.graph_digest, export.card.layers)
        learned.write(path)
        LINES.info(f"{path}: {len(learned.thresholds)} thresholds that {export.checkpoint} learned; nothing is calibrated")
        return learned
    if export.options.thresholds is not None:
        return given_thresholds(export, export.options.thresholds)
    if export.stored is not None:
        stored, source = export.stored
        LINES.info(f"{source}: reused, made from the same graph and pictures")
        return stored
    made = new_thresholds(export)
    made.write(path)
    LINES.info(f"{path}: {len(made.thresholds)} thresholds by {made.how} from {len(export.tiles)} tiles")
    return made


def new_thresholds(export: Export) -> Calibration:
    """Return thresholds from the calibration tiles, refined and with the bias corrected where that is asked for."""
    settings = export.settings
    made = calibrate(export.graph_digest, export.tiles, export.activations, method=settings.method)
    if settings.refine:
        try:
            made = replace(made, refined=True, thresholds=refined_thresholds(export, made))
        except InputError as err:
            NOTES.warning(f"thresholds are not refined: {err}")
    if settings.correct_bias:
        made = replace(made, shifts=bias_shifts(export.model, made.thresholds, export.tiles, export.sessions))
    return made


def refined_thresholds(export: Export, calibration: Calibration) -> dict[str, float]:
    """Return thresholds that do less harm to the output, found on tiles of the calibration pictures."""
    LINES.info(f"{export.stem}: refining {len(calibration.thresholds)} thresholds, takes minutes; --no-refine is quicker")
    cut, shape = export.tiles.cut, tile_shape(export.tiles.cut.shape, export.card.halo, side=REFINE_SIDE)
    samples = SelectionSet(
        export.tiles.photographs,
        Cut(cut.scales, shape, REFINE_TILES, cut.upscale),
        option="--calib",
        among={digest for digest, *_ in export.tiles.places},  # of very many pictures, calibration has chosen some
    )
    return refine(export.model, calibration.thresholds, samples, export.sessions, maxima=calibration.maxima)


def given_thresholds(export: Export, path: Path) -> Calibration:
    """Return the thresholds in the file that ``--thresholds`` names: this project's or TensorRT's cache.

    Raises:
        InputError: they were made for something else.
    """
    if is_cache(path):
        thresholds = thresholds_of(path, export.model)
        LINES.info(f"{path}: TensorRT's thresholds; which pictures they were made from is not known")
        data = digest_bytes(path.read_bytes())
        return Calibration(export.graph_digest, data, "tensorrt", False, export.tiles.cut.scales, {}, thresholds, {})
    stored = read_calibration(path)
    check_same(stored, export.graph_digest, export.tiles, export.settings.method, source=str(path))
    return stored

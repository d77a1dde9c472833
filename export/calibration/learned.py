"""Thresholds that a checkpoint brings along: ``sr-prune --qat`` learned them, and they are taken as they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.graphs.reading import OUTPUT_KEY
from sr_deploy.export.options import ExportOptions
from sr_deploy.notes import LINES

METHOD = "qat"  # what the card of an int8 graph says of its calibration


@dataclass(frozen=True)
class Learned:
    """What a checkpoint was trained to be in int8."""

    thresholds: dict[str, float]
    keep: frozenset[str]
    source: str  # digest of the checkpoint
    scales: tuple[int, ...]  # that they were learned for, together

    def calibration(self, graph_digest: str, names: Collection[str]) -> Calibration:
        """Return the thresholds of the convolutions ``names``: of an MDSR, those that one scale has."""
        found = {name: value for name, value in self.thresholds.items() if name.removesuffix(OUTPUT_KEY) in names}
        return Calibration(graph_digest, self.source, METHOD, False, self.scales, {}, found, {})


def learned_from(checkpoint: Path, card: ModelCard, options: ExportOptions) -> Learned | None:
    """Return what a checkpoint with ``card`` learned; None where that is nothing, or ``options`` ask for other thresholds.

    Raises:
        InputError: every convolution is to be int8, and some were in float when the thresholds were learned.
    """
    if not card.thresholds:
        return None
    for option, value in (("--method", options.method), ("--thresholds", options.thresholds)):
        if value is not None:
            LINES.info(f"{checkpoint}: its learned thresholds are left out, {option} {value} asks for others")
            return None
    if options.all_layers and ("int8" in options.precisions or options.sensitivity):
        kept = ", ".join(card.keep)
        raise InputError(
            f"--all-layers: {checkpoint} was trained with {kept} in float; leave it out, or calibrate again with --method"
        )
    if options.calib is not None and "int8" in options.precisions:
        LINES.info(
            f"{checkpoint}: its thresholds are learned, so --calib {options.calib} only checks the graphs; --method calibrates"
        )
    scales = [int(scale) for scale in card.recipe.get("data.scales", "").split()] or card.scales
    return Learned(card.thresholds, frozenset(card.keep), card.digest, tuple(sorted(set(scales))))

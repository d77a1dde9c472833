"""Thresholds that a checkpoint brings along: ``sr-prune --qat`` learned them, and they are taken as they are."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.graphs.reading import OUTPUT_KEY

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


def learned_from(card: ModelCard, arguments: argparse.Namespace) -> Learned | None:
    """Return what a checkpoint with ``card`` learned; None where that is nothing, or the command line asks for other thresholds.

    Raises:
        InputError: every convolution is to be int8, and some were in float when the thresholds were learned.
    """
    if not card.thresholds:
        return None
    source = arguments.checkpoint
    for option, value in (("--method", arguments.method), ("--thresholds", arguments.thresholds)):
        if value is not None:
            print(f"{source}: its learned thresholds are left out, {option} {value} asks for others")
            return None
    if arguments.all_layers and ("int8" in arguments.precision or arguments.sensitivity):
        kept = ", ".join(card.keep)
        raise InputError(
            f"--all-layers: {source} was trained with {kept} in float; leave it out, or calibrate again with --method"
        )
    if arguments.calib is not None and "int8" in arguments.precision:
        print(f"{source}: its thresholds are learned, so --calib {arguments.calib} only checks the graphs; --method calibrates")
    scales = [int(scale) for scale in card.recipe.get("data.scales", "").split()] or card.scales
    return Learned(card.thresholds, frozenset(card.keep), card.digest, tuple(sorted(set(scales))))

"""What ``sr-gate`` would say of an int8 graph: whole photographs through its tiles, compared with the fp32 graph's.

The guard searches by the mean drop on a few tiles, which is quick. What it has chosen is held against every figure of a budget
here, by the definition that the gate has (``sr_deploy.comparison``), so that the gate passes it on the same photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnxruntime as ort

from sr_deploy.budgets import Budget
from sr_deploy.card import ModelCard
from sr_deploy.comparison import Degraded, Losses, PictureResult, compare, degrade, spending
from sr_deploy.degrade import Planes, through_channels
from sr_deploy.export.accuracy.sensitivity import LayerLoss
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.photographs import HELD_BYTES, Photographs
from sr_deploy.progress import progress
from sr_deploy.runtime.upscaling.tiling import bands_of, evenly

MOST_PICTURES = 24  # of more, some are measured, evenly chosen

Budgets = Mapping[int, Budget]
"""What may be lost, by scale."""


@dataclass(frozen=True)
class WholePictures:
    """Photographs on which graphs of one network are compared as the gate does; what the fp32 graph makes of them is held."""

    photographs: Photographs
    digests: Sequence[str]  # of those that can be measured at every scale
    card: ModelCard  # of the fp32 graph
    scales: tuple[int, ...]
    held: dict[tuple[str, int], tuple[Degraded, Planes]] = field(default_factory=dict)  # by photograph and scale

    def losses(self, graph: ort.InferenceSession, reference: ort.InferenceSession) -> dict[int, Losses]:
        """Return what ``graph`` loses against ``reference`` by scale; both take one tile of the card's shape at a time."""
        found: dict[int, list[PictureResult]] = {scale: [] for scale in self.scales}
        chosen = evenly(self.digests, MOST_PICTURES)
        with progress("guard, whole pictures", len(chosen) * len(self.scales)) as advance:
            for digest in chosen:
                for scale in self.scales:
                    degraded, theirs = self.held.get((digest, scale)) or self._expected(digest, scale, reference)
                    found[scale].append(compare(degraded, through(graph, self.card, degraded.given), theirs))
                    advance("")
        return {scale: Losses(tuple(pictures)) for scale, pictures in found.items()}

    def _expected(self, digest: str, scale: int, reference: ort.InferenceSession) -> tuple[Degraded, Planes]:
        """Return a photograph made small and what the fp32 graph makes of it, held where ``HELD_BYTES`` have room for it."""
        degraded = degrade(self.photographs.paths[digest].name, self.photographs.measured(digest), scale, self.card.upscale)
        made = degraded, through(reference, self.card, degraded.given)
        size = sum(planes.nbytes for one, theirs in (*self.held.values(), made) for planes in (one.given, one.hr, theirs))
        if size <= HELD_BYTES:
            self.held[digest, scale] = made
        return made


def through(session: ort.InferenceSession, card: ModelCard, picture: Planes) -> Planes:
    """Return what a graph that takes one tile makes of a picture (h, w) or (c, h, w) in [0, 1]."""

    def run(planes: Planes) -> Planes:
        bands = bands_of(card, lambda first, last: planes[:, first:last], (planes.shape[1], planes.shape[2]))
        outputs = ((band, [session.run(None, {INPUT: tile[None]})[0] for tile in band.tiles]) for band in bands)
        return np.concatenate([band.joined(np.concatenate(output)) for band, output in outputs], axis=1)

    return through_channels(run, picture)


def shares(losses: Mapping[int, Losses], budgets: Budgets) -> dict[int, float]:
    """Return by scale the part of the budget that is used of the limit nearest to being broken; broken above 1."""
    return {
        scale: max((spent.share for spent in spending(found, budgets[scale])), default=0.0) for scale, found in losses.items()
    }


def shares_alone(loss: LayerLoss, budgets: Budgets) -> dict[int, float]:
    """Return by scale the part of the budget that one convolution alone in int8 uses."""
    found: dict[int, float] = {}
    for scale, drop in loss.drop_db.items():
        one = PictureResult(loss.name, -drop, 0.0, 0.0, loss.agreement_db[scale], loss.shift_levels[scale])
        against_fp32 = replace(budgets[scale], min_psnr_db=None, min_gain_over_bicubic_db=None)
        found |= shares({scale: Losses((one,))}, {scale: against_fp32})
    return found


def broken(losses: Mapping[int, Losses], budgets: Budgets) -> list[str]:
    """Return a text for each broken limit."""
    spent = {scale: spending(found, budgets[scale]) for scale, found in losses.items()}
    return [f"x{scale}: {one.text}" for scale, some in spent.items() for one in some if one.broken]

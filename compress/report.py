"""What a pruning gives: the rows of the before/after table, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard, Shape
from sr_deploy.console import table
from sr_deploy.degrade import Planes
from sr_deploy.measure import bicubic, luma_of, mean, score
from sr_deploy.strict_json import json_text
from sr_deploy.train.loop.validation import validate
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import macs, weight_count

REMEDY = "train longer (--finetune-steps), with teachers (--distill both), or remove less (--sparsity)"


@dataclass(frozen=True)
class Row:
    """One line of the before/after table."""

    stage: str
    weights: int
    macs: int
    psnr_db: dict[int, float]  # by scale


def row(stage: str, network: Network, shape: Shape, pictures: Sequence[Planes], card: ModelCard) -> Row:
    """Measure one stage; of a network with a branch for each scale, all weights, and the MACs of the default scale."""
    quality = validate(network, pictures, card.scales)
    network.eval()
    return Row(stage, weight_count(network), macs(network.at_scale(card.default_scale), shape), quality)


def bicubic_psnr_db(pictures: Sequence[Planes], scales: Sequence[int]) -> dict[int, float]:
    """Return what bicubic enlargement of luma reaches, by scale."""
    return {scale: mean([score(bicubic, luma_of(picture), scale) for picture in pictures]).psnr_db for scale in scales}


@dataclass(frozen=True)
class PruneResult:
    """What a pruning wrote, and what it cost."""

    checkpoint: Path
    card: ModelCard
    rows: tuple[Row, ...]  # dense, pruned and what follows
    shape: Shape  # that MACs are counted at
    bicubic_db: Mapping[int, float]  # PSNR of bicubic enlargement on the same pictures, by scale
    layers: Sequence[Sequence[str]] = ()  # what each group of channels keeps, a heading first; empty where one sparsity says it
    macs_scale: int | None = None  # of the rows' MACs, where the network has a branch for each scale
    macs_share: float | None = None  # of the dense network's over all scales, that is left; where it was chosen

    @property
    def psnr_db(self) -> Mapping[int, float]:
        """What the written network reaches, by scale."""
        return self.rows[-1].psnr_db

    def failure(self, max_drop_db: float | None = None) -> str | None:
        """Return why the written network is not good enough, at the scale where it lost most; ``None``: it is.

        It may lose ``max_drop_db`` against the dense one (``None``: anything), and has to be above bicubic where that one is.
        """
        dense = self.rows[0].psnr_db
        scale = max(dense, key=lambda one: dense[one] - self.psnr_db[one])
        what = f"{self.checkpoint}: PSNR x{scale} is {self.psnr_db[scale]:.3f} dB"
        drop = dense[scale] - self.psnr_db[scale]
        if max_drop_db is not None and not drop <= max_drop_db:
            below = f"{drop:.3f} dB below the dense network ({dense[scale]:.3f} dB), the budget is {max_drop_db:g} dB"
            return f"{what}, {below}; {REMEDY}"
        lost = [one for one, db in self.bicubic_db.items() if not self.psnr_db[one] > db and dense[one] > db]
        if lost:
            what = f"{self.checkpoint}: PSNR x{lost[0]} is {self.psnr_db[lost[0]]:.3f} dB"
            return f"{what}, not above bicubic ({self.bicubic_db[lost[0]]:.3f} dB); {REMEDY}"
        return None


def tables_of(result: PruneResult) -> list[str]:
    """Return what each layer keeps, where that was chosen, and the before/after table."""
    rows, scales = result.rows, list(result.bicubic_db)
    size = "x".join(map(str, result.shape)) + (f", x{result.macs_scale}" if result.macs_scale else "")
    heading = ["stage", "weights", f"GMAC at {size}", *(f"PSNR x{s}" for s in scales)]
    lines = [[r.stage, f"{r.weights:,}", f"{r.macs / 1e9:.2f}", *(f"{r.psnr_db[s]:.3f}" for s in scales)] for r in rows]
    reference = ["bicubic", "", "", *(f"{result.bicubic_db[s]:.3f}" for s in scales)]
    return [*([table(result.layers)] if result.layers else []), table([heading, reference, *lines])]


def json_of(result: PruneResult) -> str:
    """Return the before/after table as JSON."""
    results = [
        {"stage": r.stage, "weights": r.weights, "macs": r.macs, "psnr_db": {str(s): v for s, v in r.psnr_db.items()}}
        for r in result.rows
    ]
    where = {"macs_scale": result.macs_scale} if result.macs_scale else {}
    left = {} if result.macs_share is None else {"macs_share": result.macs_share}
    bicubic_db = {str(scale): value for scale, value in result.bicubic_db.items()}
    told = {"shape": list(result.shape), **where, **left, "bicubic_psnr_db": bicubic_db, "results": results}
    return json_text(told)

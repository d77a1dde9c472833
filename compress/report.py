"""What a pruning gives: the rows of the before/after table, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard, Shape
from sr_deploy.console import table
from sr_deploy.degrade import Planes
from sr_deploy.train.loop.validation import validate
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import macs, weight_count


@dataclass(frozen=True)
class Row:
    """One line of the before/after table."""

    stage: str
    weights: int
    macs: int
    psnr_db: dict[int, float]  # by scale; empty without --val


def row(stage: str, network: Network, shape: Shape, pictures: Sequence[Planes], card: ModelCard) -> Row:
    """Measure one stage; of a network with a branch for each scale, all weights, and the MACs of the default scale."""
    quality = validate(network, pictures, card.scales) if pictures else {}
    network.eval()
    return Row(stage, weight_count(network), macs(network.at_scale(card.default_scale), shape), quality)


@dataclass(frozen=True)
class PruneResult:
    """What a pruning wrote, and what it cost."""

    checkpoint: Path
    card: ModelCard
    rows: tuple[Row, ...]  # dense, pruned and what follows
    shape: Shape  # that MACs are counted at
    layers: Sequence[Sequence[str]] = ()  # what each group of channels keeps, a heading first; empty where one sparsity says it
    macs_scale: int | None = None  # of the rows' MACs, where the network has a branch for each scale
    macs_share: float | None = None  # of the dense network's over all scales, that is left; where it was chosen

    @property
    def psnr_db(self) -> Mapping[int, float]:
        """What the written network reaches, by scale; empty without validation pictures."""
        return self.rows[-1].psnr_db


def tables_of(result: PruneResult) -> list[str]:
    """Return what each layer keeps, where that was chosen, and the before/after table."""
    rows, scales = result.rows, list(result.rows[0].psnr_db)
    size = "x".join(map(str, result.shape)) + (f", x{result.macs_scale}" if result.macs_scale else "")
    heading = ["stage", "weights", f"GMAC at {size}", *(f"PSNR x{s}" for s in scales)]
    lines = [[r.stage, f"{r.weights:,}", f"{r.macs / 1e9:.2f}", *(f"{r.psnr_db[s]:.3f}" for s in scales)] for r in rows]
    return [*([table(result.layers)] if result.layers else []), table([heading, *lines])]


def json_of(result: PruneResult) -> str:
    """Return the before/after table as JSON."""
    results = [
        {"stage": r.stage, "weights": r.weights, "macs": r.macs, "psnr_db": {str(s): v for s, v in r.psnr_db.items()}}
        for r in result.rows
    ]
    where = {"macs_scale": result.macs_scale} if result.macs_scale else {}
    left = {} if result.macs_share is None else {"macs_share": result.macs_share}
    return json.dumps({"shape": list(result.shape), **where, **left, "results": results}, indent=2) + "\n"

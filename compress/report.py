"""The before/after table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sr_deploy.card import ModelCard, Shape
from sr_deploy.console import table
from sr_deploy.degrade import Planes
from sr_deploy.files import write_text
from sr_deploy.train.loop.validation import validate
from sr_deploy.train.networks.registry import at_scale, macs, weight_count


@dataclass(frozen=True)
class Row:
    """One line of the before/after table."""

    stage: str
    weights: int
    macs: int
    psnr_db: dict[int, float]  # by scale; empty without --val


def row(stage: str, network: nn.Module, shape: Shape, pictures: Sequence[Planes], card: ModelCard) -> Row:
    """Measure one stage; of a network with a branch for each scale, all weights, and the MACs of the default scale."""
    quality = validate(network, pictures, card.scales) if pictures else {}
    network.eval()
    return Row(stage, weight_count(network), macs(at_scale(network, card.default_scale), shape), quality)


def report(rows: Sequence[Row], shape: Shape, path: Path | None, *, scale: int | None = None, share: float | None = None) -> None:
    """Print the before/after table and write it as JSON where asked.

    ``scale`` is that of the MACs, where it matters; ``share`` what is left of those of all scales, where it was chosen.
    """
    scales = list(rows[0].psnr_db)
    size = "x".join(map(str, shape)) + (f", x{scale}" if scale else "")
    heading = ["stage", "weights", f"GMAC at {size}", *(f"PSNR x{s}" for s in scales)]
    lines = [[r.stage, f"{r.weights:,}", f"{r.macs / 1e9:.2f}", *(f"{r.psnr_db[s]:.3f}" for s in scales)] for r in rows]
    print(table([heading, *lines]))
    if path is not None:
        results = [
            {"stage": r.stage, "weights": r.weights, "macs": r.macs, "psnr_db": {str(s): v for s, v in r.psnr_db.items()}}
            for r in rows
        ]
        where = {"macs_scale": scale} if scale else {}
        left = {} if share is None else {"macs_share": share}
        write_text(path, json.dumps({"shape": list(shape), **where, **left, "results": results}, indent=2) + "\n")

"""The export: one checked file after another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard, Precision
from sr_deploy.export.accuracy.guard import Decision
from sr_deploy.export.accuracy.sensitivity import LayerLoss
from sr_deploy.export.choice import Int8
from sr_deploy.export.graphs.half import half_precision, nodes_that_may_overflow
from sr_deploy.export.int8 import export_int8, report_sensitivity
from sr_deploy.export.job import Export, write
from sr_deploy.export.options import ExportOptions
from sr_deploy.export.prepare import prepare
from sr_deploy.notes import LINES
from sr_deploy.options import check_type
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.runtime.upscaling.tiling import useful_share

LEAST_SHARE, GOOD_SHARE = 0.4, 0.7  # of a tile that is useful


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    card: ModelCard  # of the fp32 graph
    graphs: dict[Precision, Path]
    useful_share: float  # of a tile, 0 to 1
    int8_layers: dict[str, Precision]  # precision of each convolution in the int8 graph; empty: there is none
    int8_share: float | None  # of the multiplications in int8, 0 to 1
    decision: Decision | None  # of the accuracy guard
    losses: tuple[LayerLoss, ...]  # with ``sensitivity``: what each convolution alone in int8 costs


def export(checkpoint: Path, options: ExportOptions, *, progress: OnStep | None = None) -> ExportResult:
    """Export a checkpoint as graphs, each checked before it is written; ``progress`` is called with every step.

    Raises:
        InputError: a bad option or file.
        CheckError: a graph computes something else than the network, or no choice of layers keeps ``max_drop_db``.
        MachineError: a package or the disk.
    """
    check_type("checkpoint", checkpoint, Path, "a path")
    with progress_to(progress):
        job = prepare(checkpoint, options)
        share = useful_share(job.card)
        report_share(job, share)
        int8 = Int8(job)
        if options.sensitivity:
            report_sensitivity(int8)
        graphs: dict[Precision, Path] = {}
        if "fp32" in options.precisions:
            graphs["fp32"] = write(job, job.model, job.card)
        if "fp16" in options.precisions:
            graphs["fp16"] = export_fp16(job)
        # int8 comes last: where the guard finds no choice, the others are there.
        made = export_int8(int8) if "int8" in options.precisions else None
        if made is not None:
            graphs["int8"] = made.path
    return ExportResult(
        job.card,
        graphs,
        share,
        made.layers if made else {},
        made.share if made else None,
        made.decision if made else None,
        int8.losses if options.sensitivity else (),
    )


def report_share(job: Export, share: float) -> None:
    """Say how much of a tile is useful, and which shape were better where that is little."""
    LINES.info(f"{job.stem}: halo {job.card.halo} pixels, {100 * share:.0f} % of a tile is useful")
    if share < LEAST_SHARE:
        side = side_for_share(job.card.halo, GOOD_SHARE)
        shape = f"1 {job.settings.shape[1]} {side} {side}"
        LINES.info(f"warning: below 40 %, tiles are mostly computed twice; --shape {shape} reaches 70 %")


def side_for_share(halo: int, share: float) -> int:
    """Return the least multiple of 32 whose square tile is useful to at least ``share`` (0 to 1) at this halo in pixels."""
    return math.ceil(2 * halo / (1.0 - math.sqrt(share)) / 32.0) * 32


def export_fp16(job: Export) -> Path:
    """Write the fp16 graph and return its file; nodes that could overflow stay fp32 and are named."""
    risky = nodes_that_may_overflow(job.model, job.ranges())
    for name in risky:
        LINES.info(f"{job.stem}: {name} could overflow float16 and stays fp32")
    model = half_precision(job.model, keep=frozenset(risky))
    layers: dict[str, Precision] = {n: "fp32" if n in risky else "fp16" for n in job.card.layers}
    return write(job, model, job.card.with_changes(precision="fp16", layers=layers))

"""What ``sr-export`` does once its arguments are read: one checked file after another."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from sr_deploy.card import Precision
from sr_deploy.export.graphs.half import half_precision, nodes_that_may_overflow
from sr_deploy.export.int8 import export_int8, report_sensitivity
from sr_deploy.export.job import Export, write
from sr_deploy.export.prepare import prepare
from sr_deploy.runtime.upscaling.tiling import useful_share


def export_command(arguments: argparse.Namespace) -> int:
    """Export as the command line asks and return the exit code."""
    export = prepare(arguments)
    share = useful_share(export.card)
    print(f"{export.stem}: halo {export.card.halo} pixels, {100 * share:.0f} % of a tile is useful")
    if share < 0.4:
        side = side_for_share(export.card.halo, 0.7)
        shape = f"1 {export.card.input_shape[1] if export.card.input_shape else 1} {side} {side}"
        print(f"warning: below 40 %, tiles are mostly computed twice; --shape {shape} reaches 70 %")
    if arguments.sensitivity:
        report_sensitivity(export)
    # int8 comes last: where the guard finds no choice, the others are there.
    steps: dict[str, Callable[[Export], None]] = {"fp32": export_fp32, "fp16": export_fp16, "int8": export_int8}
    for precision, step in steps.items():
        if precision in arguments.precision:
            step(export)
    return 0


def side_for_share(halo: int, share: float) -> int:
    """Return the least multiple of 32 whose square tile is useful to at least ``share`` (0 to 1) at this halo in pixels."""
    return math.ceil(2 * halo / (1.0 - math.sqrt(share)) / 32.0) * 32


def export_fp32(export: Export) -> None:
    """Write the fp32 graph."""
    write(export, export.model, export.card)


def export_fp16(export: Export) -> None:
    """Write the fp16 graph; nodes that could overflow stay fp32 and are named."""
    risky = nodes_that_may_overflow(export.model, export.ranges())
    for name in risky:
        print(f"{export.stem}: {name} could overflow float16 and stays fp32")
    model = half_precision(export.model, keep=frozenset(risky))
    layers: dict[str, Precision] = {n: "fp32" if n in risky else "fp16" for n in export.card.layers}
    write(export, model, export.card.with_changes(precision="fp16", layers=layers))

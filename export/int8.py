"""The int8 part of an export: what layers cost, the accuracy guard, the graph and what its card says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import Precision
from sr_deploy.charts import check_charts, sensitivity_chart
from sr_deploy.errors import MachineError
from sr_deploy.export.accuracy.guard import Decision, int8_share
from sr_deploy.export.accuracy.sensitivity import record, report
from sr_deploy.export.choice import Int8, first_choice
from sr_deploy.export.decide import decide, delete
from sr_deploy.export.graphs.quantize import scale_of
from sr_deploy.export.job import write
from sr_deploy.files import write_text
from sr_deploy.notes import LINES
from sr_deploy.strict_json import json_text
from sr_deploy.thresholds import QMAX


@dataclass(frozen=True)
class Int8Graph:
    """An int8 graph that was written."""

    path: Path
    layers: dict[str, Precision]  # by convolution
    share: float  # of the multiplications in int8, 0 to 1
    decision: Decision | None  # of the guard


def export_int8(int8: Int8) -> Int8Graph:
    """Let the guard decide where it is asked for, and write the int8 graph.

    Raises:
        CheckError: no choice of layers keeps the drop; an int8 graph of an earlier export is gone too.
    """
    export, calibration = int8.export, int8.calibration
    decision = decide(int8) if export.options.guarded else None
    choice = decision.choice if decision else first_choice(export)
    layers: dict[str, Precision] = {n: "fp32" if n in choice.floating else "int8" for n in export.card.layers}
    share = int8_share(choice, export.macs)
    in_float = ", ".join(n for n in layers if n in choice.floating)
    LINES.info(f"{export.stem}: {100 * share:.1f} % of the multiplications in int8, fp32: {in_float or 'none'}")
    changes = {
        "precision": "int8",
        "layers": layers,
        "calibrated_scale": calibration.scales[0] if len(calibration.scales) == 1 else None,
        "calibration": calibration.method,
        "refinements": calibration.refinements,
        "thresholds_digest": calibration.digest,
        "thresholds": recorded(choice.thresholds(calibration.thresholds)),
        "guard": guard_facts(decision) if decision else {},
    }
    path = write(export, int8.graph(choice), export.card.with_changes(**changes))
    if decision is None:  # an earlier export's says nothing of the graph that took that one's place
        delete(export.options.output / f"{export.stem}_int8.guard.json")
    return Int8Graph(path, layers, share, decision)


def recorded(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return thresholds as the graph's scales stand for them: what ``sr-gate`` compares a graph with."""
    return {name: QMAX * scale_of(value) for name, value in thresholds.items()}


def guard_facts(decision: Decision) -> dict[str, object]:
    """Return what the card says of a decision."""
    return {
        "max_drop_db": decision.max_drop_db,
        "drop_db": {str(scale): round(drop, 4) for scale, drop in decision.drop_db.items()},
        "given_back": list(decision.choice.given_back),
    }


def report_sensitivity(int8: Int8) -> None:
    """Report what each convolution costs in int8, and write it as a table (JSON) and as a bar chart (PNG)."""
    export, losses = int8.export, int8.losses
    LINES.info(report(losses, sum(export.macs.values())))
    base = export.options.output / f"{export.stem}_sensitivity"
    write_text(Path(f"{base}.json"), json_text({"layers": record(losses)}))
    try:
        check_charts()
    except MachineError as err:
        LINES.info(f"{base}.json: written; no chart: {err}")
        return
    drops = {scale: [loss.drop_db[scale] for loss in losses] for scale in export.tiles.cut.scales}
    sensitivity_chart([loss.name for loss in losses], drops, Path(f"{base}.png"), title=export.stem)
    LINES.info(f"{base}.png, {base}.json: written")

"""The int8 part of an export: what layers cost, the accuracy guard, the graph and what its card says of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from sr_deploy.card import Precision, Shape
from sr_deploy.charts import check_charts, sensitivity_chart
from sr_deploy.errors import CheckError, InputError, MachineError
from sr_deploy.export.accuracy.decision_file import question_of, stored_decision, write_decision
from sr_deploy.export.accuracy.guard import Choice, Decision, Drops, Search, Step, int8_share, worst
from sr_deploy.export.accuracy.selection import SelectionSet, drops_db, psnr_db
from sr_deploy.export.accuracy.sensitivity import LayerLoss, record, report, sensitivity, tile_shape
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.quantize import kept_by_default
from sr_deploy.export.graphs.reading import convolution_nodes
from sr_deploy.export.graphs.suffix import at_shape
from sr_deploy.export.job import Export, write
from sr_deploy.export.photographs import Cut
from sr_deploy.export.thresholds import thresholds_for
from sr_deploy.files import write_text
from sr_deploy.notes import LINES, NOTES

MOVES = {"give back": "to float", "take back": "back to int8"}  # a step of the guard, as it is printed


@dataclass(frozen=True, eq=False)
class Int8:
    """What an export needs to know of int8; each is found once, when it is asked for."""

    export: Export

    @cached_property
    def calibration(self) -> Calibration:
        """The thresholds."""
        return thresholds_for(self.export)

    @cached_property
    def losses(self) -> tuple[LayerLoss, ...]:
        """What each convolution alone in int8 costs, on smaller tiles than the graph's."""
        samples = selection(self.export, tile_shape(self.export.settings.shape, self.export.card.halo))
        return tuple(sensitivity(self.export.model, self.calibration.thresholds, samples, self.export.sessions))

    def graph(self, choice: Choice) -> onnx.ModelProto:
        """Return the int8 graph of a choice."""
        return choice.graph(self.export.model, self.calibration.thresholds, self.calibration.shifts)


@dataclass(frozen=True)
class Int8Graph:
    """An int8 graph that was written."""

    path: Path
    layers: dict[str, Precision]  # by convolution
    share: float  # of the multiplications in int8, 0 to 1
    decision: Decision | None  # of the guard


def export_int8(int8: Int8) -> Int8Graph:
    """Let the guard decide where a drop is given, and write the int8 graph.

    Raises:
        CheckError: no choice of layers keeps the drop; an int8 graph of an earlier export is gone too.
    """
    export, calibration = int8.export, int8.calibration
    decision = decide(int8, export.options.max_drop_db) if export.options.max_drop_db is not None else None
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
        "guard": guard_facts(decision) if decision else {},
    }
    path = write(export, int8.graph(choice), export.card.with_changes(**changes))
    if decision is None:  # an earlier export's says nothing of the graph that took that one's place
        delete(export.options.output / f"{export.stem}_int8.guard.json")
    return Int8Graph(path, layers, share, decision)


def first_choice(export: Export) -> Choice:
    """Return what the options keep out of int8; what ``--keep`` names reads float activations too."""
    options = export.options
    kept = frozenset() if options.all_layers else kept_by_default(export.model)
    if export.learned is not None:
        kept = export.learned.keep & export.card.layers.keys()
    choice = Choice(kept, tuple(dict.fromkeys(options.keep)))
    if choice.floating >= export.macs.keys():
        raise InputError(f"--keep {' '.join(options.keep)}: no convolution is left for int8; keep fewer")
    return choice


def decide(int8: Int8, max_drop_db: float) -> Decision:
    """Return the guard's decision: that of an equal export, or a new one, which is written.

    Raises:
        CheckError: no choice fits.
    """
    export, start = int8.export, first_choice(int8.export)
    samples = selection(export, (1, *export.settings.shape[1:]))
    question = question_of(
        start,
        graph=export.graph_digest,
        thresholds=int8.calibration.digest,
        pictures=samples.digest,
        max_drop_db=max_drop_db,
    )
    name = f"{export.stem}_int8.guard.json"
    found = stored_decision([place / name for place in export.folders], question)
    if found is not None:
        drops = drops_text(found[0].drop_db)
        LINES.info(f"{found[1]}: reused, decided for the same graph, thresholds and pictures; drop {drops}")
        return found[0]
    decision = search_for(int8, samples, max_drop_db).run(start)
    if not decision.fits:
        delete(export.options.output / name)
        engine = export.options.output / f"{export.stem}_int8.onnx"
        gone = f"; {engine} of an earlier export was removed" if delete(engine) else ""
        raise CheckError(f"{export.stem}_int8: {nothing_fits(export, decision)}{gone}")
    write_decision(export.options.output / name, question, decision)
    return decision


def nothing_fits(export: Export, decision: Decision) -> str:
    """Return the line about the best choice that was found where none keeps the drop."""
    best, share = decision.choice, f"{100 * int8_share(decision.choice, export.macs):.0f} %"
    return (
        f"no choice of layers keeps the drop within {decision.max_drop_db:g} dB; the best was "
        f"{worst(decision.drop_db):.3f} dB ({drops_text(decision.drop_db)}) with {share} of the multiplications in "
        f"int8 and {', '.join(sorted(best.given_back)) or 'nothing'} kept in float for it; no int8 graph is written: "
        "raise --max-drop, calibrate on more photographs with --calib, or tune with sr-prune --qat"
    )


def selection(export: Export, shape: Shape) -> SelectionSet:
    """Return the photographs to measure on in tiles of ``shape``, at every scale that is calibrated for."""
    assert export.selection is not None  # prepared where anything is measured
    cut = export.tiles.cut
    samples = SelectionSet(export.selection, Cut(cut.scales, shape, export.options.select_tiles, cut.upscale))
    for line in samples.skipped:
        NOTES.warning(f"left out: {line}")
    return samples


def search_for(int8: Int8, samples: SelectionSet, max_drop_db: float) -> Search:
    """Return the guard's search over the choices for this export."""
    export = int8.export
    reference = psnr_db(export.sessions.kept(at_shape(export.model, samples.cut.shape)), samples)

    def measure(choice: Choice) -> Drops:
        graph = at_shape(int8.graph(choice), samples.cut.shape)
        return drops_db(psnr_db(export.sessions.open(graph, exact=True), samples), reference)

    def costs() -> dict[str, Drops]:
        # A float convolution that reads the picture itself has no int8 input to lose.
        untouched = first_choice(export).kept & {n.name for n in convolution_nodes(export.model) if n.input[0] == INPUT}
        return {loss.name: loss.drop_db for loss in int8.losses if loss.name not in untouched}

    def tell(step: Step) -> None:
        what = "guard" if step.layer is None else f"guard: {step.layer} {MOVES[step.action]}"
        LINES.info(f"{export.stem}: {what}: drop {drops_text(step.drop_db)}, {100 * step.int8_share:.1f} % in int8")

    return Search(measure, costs, export.macs, max_drop_db, tell)


def delete(path: Path) -> bool:
    """Delete a file and return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def drops_text(drops: Drops) -> str:
    """Return drops as text."""
    return " ".join(f"x{scale} {drop:.3f}" for scale, drop in drops.items()) + " dB"


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
    write_text(Path(f"{base}.json"), json.dumps({"layers": record(losses)}, indent=2) + "\n")
    try:
        check_charts()
    except MachineError as err:
        LINES.info(f"{base}.json: written; no chart: {err}")
        return
    drops = {scale: [loss.drop_db[scale] for loss in losses] for scale in export.tiles.cut.scales}
    sensitivity_chart([loss.name for loss in losses], drops, Path(f"{base}.png"), title=export.stem)
    LINES.info(f"{base}.png, {base}.json: written")

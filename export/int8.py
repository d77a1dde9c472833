"""The int8 part of ``sr-export``: thresholds, the accuracy guard, the graph and what its card tells of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sr_deploy.calib_data import folder
from sr_deploy.card import Precision, Shape
from sr_deploy.charts import check_charts, sensitivity_chart
from sr_deploy.errors import CheckError, InputError, MachineError
from sr_deploy.export.accuracy.decision_file import question_of, stored_decision, write_decision
from sr_deploy.export.accuracy.guard import Choice, Decision, Drops, Search, Step, int8_share, worst
from sr_deploy.export.accuracy.selection import SelectionSet, drops_db, psnr_db
from sr_deploy.export.accuracy.sensitivity import LayerLoss, record, report, sensitivity, tile_shape
from sr_deploy.export.calibration.bias import bias_shifts
from sr_deploy.export.calibration.calibrate import Calibration, calibrate, check_same, read_calibration
from sr_deploy.export.calibration.refine import refined
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.quantize import kept_by_default
from sr_deploy.export.graphs.reading import convolution_nodes
from sr_deploy.export.job import Export, write
from sr_deploy.export.plans.calibration import is_cache, thresholds_of
from sr_deploy.files import digest_bytes, write_text

REFINE_SIDE, REFINE_TILES = 96, 400  # pixels of a tile; tiles a scale, of which the richest are used


def export_int8(export: Export) -> None:
    """Calibrate, or take stored thresholds, let the guard decide where a drop is given, and write the int8 graph.

    Raises:
        CheckError: no choice of layers keeps the drop; an int8 graph of an earlier export is gone too.
    """
    calibration = thresholds_for(export)
    decision = guarded(export, calibration) if export.arguments.max_drop is not None else None
    choice = decision.choice if decision else first_choice(export)
    layers: dict[str, Precision] = {n: "fp32" if n in choice.floating else "int8" for n in export.card.layers}
    share = int8_share(choice, export.macs)
    in_float = ", ".join(n for n in layers if n in choice.floating)
    print(f"{export.stem}: {100 * share:.1f} % of the multiplications in int8, fp32: {in_float or 'none'}")
    changes = {
        "precision": "int8",
        "layers": layers,
        "calibrated_scale": calibration.scales[0] if len(calibration.scales) == 1 else None,
        "calibration": calibration.method,
        "refinements": calibration.refinements,
        "thresholds_digest": calibration.digest,
        "guard": guard_facts(decision) if decision else {},
    }
    write(export, choice.graph(export.model, calibration.thresholds, calibration.shifts), export.card.with_changes(**changes))
    if decision is None:  # an earlier export's says nothing of the graph that took that one's place
        removed(export.arguments.output / f"{export.stem}_int8.guard.json")


def first_choice(export: Export) -> Choice:
    """Return what the command line keeps out of int8; what ``--keep`` names reads float activations too."""
    kept = frozenset() if export.arguments.all_layers else kept_by_default(export.model)
    if export.learned is not None:
        kept = export.learned.keep & export.card.layers.keys()
    choice = Choice(kept, tuple(dict.fromkeys(export.arguments.keep)))
    if choice.floating >= export.macs.keys():
        raise InputError(f"--keep {' '.join(export.arguments.keep)}: no convolution is left for int8; keep fewer")
    return choice


def guarded(export: Export, calibration: Calibration) -> Decision:
    """Return the guard's decision: that of an equal export, or a new one, which is written.

    Raises:
        CheckError: no choice fits.
    """
    arguments, start = export.arguments, first_choice(export)
    samples = selection(export, (1, *export.tiles.shape[1:]))
    question = question_of(
        start,
        graph=export.graph_digest,
        thresholds=calibration.digest,
        pictures=samples.digest,
        max_drop_db=arguments.max_drop,
    )
    name = f"{export.stem}_int8.guard.json"
    found = stored_decision([place / name for place in export.folders], question)
    if found is not None:
        print(f"{found[1]}: reused, decided for the same graph, thresholds and pictures; drop {told(found[0].drop_db)}")
        return found[0]
    decision = search(export, calibration, samples).run(start)
    if not decision.fits:
        best, share = decision.choice, f"{100 * int8_share(decision.choice, export.macs):.0f} %"
        engine = arguments.output / f"{export.stem}_int8.onnx"
        gone = f"; {engine} of an earlier export was removed" if removed(engine) else ""
        removed(arguments.output / name)
        raise CheckError(
            f"{export.stem}_int8: no choice of layers keeps the drop within {arguments.max_drop:g} dB; the best was "
            f"{worst(decision.drop_db):.3f} dB ({told(decision.drop_db)}) with {share} of the multiplications in "
            f"int8 and {', '.join(sorted(best.given_back)) or 'nothing'} given back; no int8 graph is written: raise --max-drop, "
            f"calibrate on more photographs with --calib, or tune with sr-prune --qat{gone}"
        )
    write_decision(arguments.output / name, question, decision)
    return decision


def selection(export: Export, shape: Shape) -> SelectionSet:
    """Return the photographs to measure on in tiles of ``shape``, at every scale that is calibrated for."""
    samples = SelectionSet(
        export.arguments.select or folder("select"),
        scales=export.tiles.scales,
        shape=shape,
        limit=export.arguments.select_tiles,
        upscale=export.card.upscale,
    )
    for line in samples.skipped:
        print(f"warning: left out: {line}")
    return samples


def search(export: Export, calibration: Calibration, samples: SelectionSet) -> Search:
    """Return the guard's search over the choices for this export."""
    threads = export.arguments.threads
    reference = psnr_db(export.model, samples, threads=threads)

    def measure(choice: Choice) -> Drops:
        return drops_db(
            psnr_db(choice.graph(export.model, calibration.thresholds, calibration.shifts), samples, threads=threads), reference
        )

    def costs() -> dict[str, Drops]:
        losses = losses_of(export, calibration)
        # A float convolution that reads the picture itself has nothing to give back.
        untouched = first_choice(export).kept & {n.name for n in convolution_nodes(export.model) if n.input[0] == INPUT}
        return {loss.name: loss.drop_db for loss in losses if loss.name not in untouched}

    def tell(step: Step) -> None:
        what = "guard" if step.layer is None else f"guard: {step.action} {step.layer}"
        print(f"{export.stem}: {what}: drop {told(step.drop_db)}, {100 * step.int8_share:.1f} % in int8", flush=True)

    return Search(measure, costs, export.macs, export.arguments.max_drop, tell)


def removed(path: Path) -> bool:
    """Remove a file and return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def told(drops: Drops) -> str:
    """Return drops as text."""
    return " ".join(f"x{scale} {drop:.3f}" for scale, drop in drops.items()) + " dB"


def guard_facts(decision: Decision) -> dict[str, object]:
    """Return what the card tells of a decision."""
    return {
        "max_drop_db": decision.max_drop_db,
        "drop_db": {str(scale): round(drop, 4) for scale, drop in decision.drop_db.items()},
        "given_back": list(decision.choice.given_back),
    }


def losses_of(export: Export, calibration: Calibration) -> list[LayerLoss]:
    """Return what each convolution alone in int8 costs, on smaller tiles than the graph's."""
    if export.losses is None:
        samples = selection(export, tile_shape(export.tiles.shape, export.card.halo))
        export.losses = sensitivity(export.model, calibration.thresholds, samples, threads=export.arguments.threads)
    return export.losses


def report_sensitivity(export: Export) -> None:
    """Print what each convolution costs in int8, and write it as a table (JSON) and as a bar chart (PNG)."""
    losses = losses_of(export, thresholds_for(export))
    print(report(losses, sum(export.macs.values())))
    base = export.arguments.output / f"{export.stem}_sensitivity"
    write_text(Path(f"{base}.json"), json.dumps({"layers": record(losses)}, indent=2) + "\n")
    try:
        check_charts()
    except MachineError as err:
        print(f"{base}.json: written; no chart: {err}")
        return
    drops = {scale: [loss.drop_db[scale] for loss in losses] for scale in export.tiles.scales}
    sensitivity_chart([loss.name for loss in losses], drops, Path(f"{base}.png"), title=export.stem)
    print(f"{base}.png, {base}.json: written")


def thresholds_for(export: Export) -> Calibration:
    """Return thresholds: those that were learned, from ``--thresholds``, from an earlier equal export, or newly calibrated."""
    arguments, path = export.arguments, export.arguments.output / f"{export.stem}_int8.thresholds.json"
    if export.learned is not None:
        learned = export.learned.calibration(export.graph_digest, export.card.layers)
        learned.write(path)
        print(f"{path}: {len(learned.thresholds)} thresholds that {arguments.checkpoint} learned; nothing is calibrated")
        return learned
    if arguments.thresholds is not None:
        return given_thresholds(export, arguments.thresholds)
    found = export.stored()
    if found is not None:
        print(f"{found[1]}: reused, made from the same graph and pictures")
        return found[0]
    made = calibrate(export.graph_digest, export.tiles, export.activations(), method=arguments.method)
    if arguments.refine:
        try:
            made = replace(made, refined=True, thresholds=refined_thresholds(export, made))
        except InputError as err:
            print(f"warning: thresholds are not refined: {err}")
    if arguments.correct_bias:
        made = replace(made, shifts=bias_shifts(export.model, made.thresholds, export.tiles, threads=arguments.threads))
    made.write(path)
    export.calibration = made, path
    print(f"{path}: {len(made.thresholds)} thresholds by {made.how} from {len(export.tiles)} tiles")
    return made


def refined_thresholds(export: Export, calibration: Calibration) -> dict[str, float]:
    """Return thresholds that do less harm to the output, found on tiles of the calibration pictures."""
    print(f"{export.stem}: refining {len(calibration.thresholds)} thresholds, takes minutes; --no-refine is quicker", flush=True)
    samples = SelectionSet(
        export.tiles.folder,
        scales=export.tiles.scales,
        shape=tile_shape(export.tiles.shape, export.card.halo, side=REFINE_SIDE),
        limit=REFINE_TILES,
        upscale=export.card.upscale,
        option="--calib",
        among={digest for digest, *_ in export.tiles.places},  # of very many pictures, calibration has chosen some
    )
    return refined(export.model, calibration.thresholds, samples, maxima=calibration.maxima, threads=export.arguments.threads)


def given_thresholds(export: Export, path: Path) -> Calibration:
    """Return the thresholds in the file that ``--thresholds`` names: this project's or TensorRT's cache.

    Raises:
        InputError: they were made for something else.
    """
    if is_cache(path):
        thresholds = thresholds_of(path, export.model)
        print(f"{path}: TensorRT's thresholds; which pictures they were made from is not known")
        return Calibration(
            export.graph_digest, digest_bytes(path.read_bytes()), "tensorrt", False, export.tiles.scales, {}, thresholds, {}
        )
    stored = read_calibration(path)
    check_same(stored, export.graph_digest, export.tiles, export.arguments.method, source=str(path))
    return stored

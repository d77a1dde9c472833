"""What ``sr-gate`` does once its arguments are read."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from sr_deploy.card import check_scale
from sr_deploy.console import failed
from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.files import check_reports, list_pictures
from sr_deploy.gate.budgets import Budget, budget_for, read_budgets, unused_names
from sr_deploy.gate.check import EngineResult, Pair, failures_of, latencies_ms, measure
from sr_deploy.gate.models import Reference, open_reference
from sr_deploy.gate.report.text import append_summary, result_table, write_json, write_junit
from sr_deploy.gate.thresholds import Judge
from sr_deploy.gate.weights import largest_error_steps
from sr_deploy.runtime.backends.engine import Engine, on_cpu
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.engines.shipped import engine_file

WEIGHTS_ONLY = "weights only: on a CPU fp16 is computed in fp32"
LEARNED = "thresholds learned: not compared with what these pictures ask for"


def gate_command(arguments: argparse.Namespace) -> int:
    """Gate every engine and return the exit code."""
    arguments.engines = [engine_file(path, arguments.scale) for path in arguments.engines]
    tables = read_budgets(arguments.budget)
    paths = list_pictures(arguments.data)
    reports = {"--json": arguments.json, "--junit": arguments.junit, "--summary": arguments.summary}
    check_reports(reports, [*arguments.engines, arguments.reference, arguments.budget, *paths])
    with ExitStack() as stack:
        where = {"provider": arguments.provider, "threads": arguments.threads, "trusted": arguments.trust_plan}
        engines = {str(p): stack.enter_context(closing(load(p, **where))) for p in arguments.engines}
        for line in unused_names(tables, [(Path(name).stem, engine.card.precision) for name, engine in engines.items()]):
            print(f"sr-gate: warning: {arguments.budget}: {line}", file=sys.stderr)
        budgets = {name: _budget(tables, Path(name), engine, arguments.budget) for name, engine in engines.items()}
        judged = engines if arguments.native_sums else exact_engines(engines, stack, threads=arguments.threads)
        pairs = _pairs(arguments, judged, stack)
        references = {f"reference {id(pair.reference)}": pair.reference for pair in pairs.values()}
        timed = latencies_ms({**engines, **references})
        measured = measure(pairs, paths)
    results, judge = [], Judge(arguments.reference, paths, threads=arguments.threads)
    for name, pair in pairs.items():
        card, path = pair.engine.card, Path(name)
        result = EngineResult(
            name,
            card.precision,
            pair.scale,
            measured[name],
            timed[name],
            budgets[name],
            note_of(pair.engine),
            largest_error_steps(path, arguments.reference, pair.scale),
            judge.ratios(path, card, pair.scale),
        )
        results.append(dataclasses.replace(result, failures=failures_of(result)))
    reference_ms = min(timed[name] for name in references)
    # The verdict is given even when a report cannot be written, and the reports are written even when nobody reads the table.
    problem = write_reports(arguments, results, reference_ms)
    broken = [line for result in results for line in result.failures]
    try:
        print(result_table(results, str(arguments.reference), reference_ms), flush=True)
    finally:
        for line in broken:
            failed("sr-gate", line, 1)
    if problem is not None and not broken:
        raise problem
    if problem is not None:
        failed("sr-gate", str(problem), problem.exit_code)
    return 1 if broken else 0


def write_reports(arguments: argparse.Namespace, results: Sequence[EngineResult], reference_ms: float) -> SrDeployError | None:
    """Write the reports that were asked for; return what kept the first one from being written."""
    problem: SrDeployError | None = None
    writers: Sequence[tuple[Path | None, Callable[[Path], None]]] = (
        (arguments.json, lambda path: write_json(path, results, str(arguments.reference), str(arguments.data))),
        (arguments.junit, lambda path: write_junit(path, results)),
        (arguments.summary, lambda path: append_summary(path, results, str(arguments.reference), reference_ms)),
    )
    for path, write in writers:
        if path is not None:
            try:
                write(path)
            except SrDeployError as err:
                problem = problem or err
    return problem


def note_of(engine: Engine) -> str:
    """Return what the table says of figures that mean less than they seem to, or are missing."""
    if engine.card.precision == "fp16" and on_cpu(engine):
        return WEIGHTS_ONLY
    return LEARNED if engine.card.precision == "int8" and engine.card.calibration == "qat" else ""


def check_same_network(engine: Engine, reference: Engine, name: str, source: str) -> None:
    """Check that both were made from networks of one shape.

    Raises:
        InputError: another architecture or other channel widths.
    """
    ours, theirs = engine.card, reference.card
    if (ours.arch, ours.widths) != (theirs.arch, theirs.widths):
        raise InputError(
            f"{name}: is {ours.arch} with {sum(ours.widths)} filters, {source} is {theirs.arch} with {sum(theirs.widths)}; "
            "name the checkpoint it was exported from"
        )


def reference_at(reference: Reference, scale: int, source: str) -> Engine:
    """Return the reference for a scale: of an MDSR's checkpoint its branch for it, every other one as it is.

    Raises:
        InputError: the MDSR does not serve the scale.
    """
    try:
        return reference.at_scale(scale)
    except InputError as err:
        raise InputError(f"{source}: {err}; name the checkpoint the engine was exported from") from err


def _pairs(arguments: argparse.Namespace, engines: dict[str, Engine], stack: ExitStack) -> dict[str, Pair]:
    opened: dict[object, Reference] = {}
    references: dict[object, Engine] = {}
    where = {"provider": arguments.provider, "threads": arguments.threads}
    pairs = {}
    for name, engine in engines.items():
        shape = engine.card.input_shape
        assert shape is not None
        scale = check_scale(engine.card, arguments.scale or engine.card.calibrated_scale, source=name)
        if shape not in opened:
            reference = stack.enter_context(closing(open_reference(arguments.reference, shape, **where)))
            if reference.card.input_shape != shape:
                raise InputError(
                    f"{name}: takes tiles {shape}, {arguments.reference} {reference.card.input_shape}; export both alike"
                )
            opened[shape] = reference
        if (shape, scale) not in references:
            references[shape, scale] = reference_at(opened[shape], scale, str(arguments.reference))
        check_same_network(engine, references[shape, scale], name, str(arguments.reference))
        pairs[name] = Pair(engine, references[shape, scale], scale)
    return pairs


def _budget(tables: dict[str, object], path: Path, engine: Engine, source: Path) -> Budget:
    budget = budget_for(tables, path.stem, engine.card.precision)
    if budget == Budget():
        raise InputError(
            f"{source}: has no budget for {engine.card.precision} ({path.name}); add a table [{engine.card.precision}]"
        )
    return budget

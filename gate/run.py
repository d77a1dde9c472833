"""The gate: engines against the fp32 network on the same pictures, each with its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from sr_deploy.card import check_scale
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.gate.budgets import Budget, budget_for, read_budgets, unused_names
from sr_deploy.gate.check import EngineResult, Pair, PictureResult, failures_of, latencies_ms, measure
from sr_deploy.gate.models import Reference, open_reference
from sr_deploy.gate.options import GateOptions
from sr_deploy.gate.thresholds import Judge
from sr_deploy.gate.weights import largest_error_steps
from sr_deploy.notes import NOTES
from sr_deploy.options import check_type
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.runtime.backends.engine import Engine, on_cpu
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.engines.shipped import engine_file

WEIGHTS_ONLY = "weights only: on a CPU fp16 is computed in fp32"
LEARNED = "thresholds learned: not compared with what these pictures ask for"


@dataclass(frozen=True)
class GateResult:
    """What every engine lost, and whether that is within its budget."""

    results: tuple[EngineResult, ...]
    reference: Path
    reference_ms: float  # median of one tile, of the fastest where tiles differ

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each budget that was exceeded."""
        return tuple(line for result in self.results for line in result.failures)

    @property
    def passed(self) -> bool:
        """Whether every engine keeps its budget."""
        return not self.failures


@dataclass(frozen=True)
class _Measured:
    """What engines did on pictures."""

    pairs: dict[str, Pair]  # by the engine's file
    budgets: dict[str, Budget]
    pictures: dict[str, tuple[PictureResult, ...]]
    latencies_ms: dict[str, float]
    reference_ms: float


def gate(engines: Sequence[Path], options: GateOptions, *, progress: OnStep | None = None) -> GateResult:
    """Compare engines, files or names of shipped ones, with the fp32 network; ``progress`` is called with every step.

    An engine that lost too much is no error: see ``failures`` of the result.

    Raises:
        InputError: a file is missing or damaged, has no budget, or belongs to another network.
        MachineError: a package is missing.
    """
    check_type("engines", engines, tuple[Path, ...], "paths")
    if not engines:
        raise InputError("engines=(): none to compare; name at least one")
    with progress_to(progress):
        files = [engine_file(path, options.scale) for path in engines]
        tables, paths = read_budgets(options.budget), list_pictures(options.data)
        with ExitStack() as stack:
            found = _measure(files, tables, paths, options, stack)
        judge = Judge(options.reference, paths, threads=options.threads)
        results = tuple(_judge(name, found, judge, options.reference) for name in found.pairs)
    return GateResult(results, options.reference, found.reference_ms)


def _measure(
    files: Sequence[Path], tables: dict[str, object], paths: Sequence[Path], options: GateOptions, stack: ExitStack
) -> _Measured:
    """Open engines and references, time them and run them on the pictures."""
    engines: dict[str, Engine] = {}
    for path in files:
        engine = load(path, provider=options.provider, threads=options.threads, trusted=options.trust_plan)
        engines[str(path)] = stack.enter_context(closing(engine))
    for line in unused_names(tables, [(Path(name).stem, engine.card.precision) for name, engine in engines.items()]):
        NOTES.warning(f"{options.budget}: {line}")
    budgets = {name: _budget(tables, Path(name), engine, options.budget) for name, engine in engines.items()}
    judged = engines if options.native_sums else exact_engines(engines, stack, threads=options.threads)
    pairs = _pairs(options, judged, stack)
    references = {f"reference {id(pair.reference)}": pair.reference for pair in pairs.values()}
    timed = latencies_ms({**engines, **references})
    return _Measured(pairs, budgets, measure(pairs, paths), timed, min(timed[name] for name in references))


def _judge(name: str, found: _Measured, judge: Judge, reference: Path) -> EngineResult:
    """Return what one engine lost, with a line for each budget that it exceeds."""
    pair, path = found.pairs[name], Path(name)
    card = pair.engine.card
    result = EngineResult(
        name,
        card.precision,
        pair.scale,
        found.pictures[name],
        found.latencies_ms[name],
        found.budgets[name],
        note_of(pair.engine),
        largest_error_steps(path, reference, pair.scale),
        judge.ratios(path, card, pair.scale),
    )
    return replace(result, failures=failures_of(result))


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


def _pairs(options: GateOptions, engines: Mapping[str, Engine], stack: ExitStack) -> dict[str, Pair]:
    opened: dict[object, Reference] = {}
    references: dict[object, Engine] = {}
    pairs = {}
    for name, engine in engines.items():
        shape = engine.card.input_shape
        assert shape is not None
        scale = check_scale(engine.card, options.scale or engine.card.calibrated_scale, source=name)
        if shape not in opened:
            reference = open_reference(options.reference, shape, provider=options.provider, threads=options.threads)
            opened[shape] = stack.enter_context(closing(reference))
            if reference.card.input_shape != shape:
                raise InputError(
                    f"{name}: takes tiles {shape}, {options.reference} {reference.card.input_shape}; export both alike"
                )
        if (shape, scale) not in references:
            references[shape, scale] = reference_at(opened[shape], scale, str(options.reference))
        check_same_network(engine, references[shape, scale], name, str(options.reference))
        pairs[name] = Pair(engine, references[shape, scale], scale)
    return pairs


def _budget(tables: dict[str, object], path: Path, engine: Engine, source: Path) -> Budget:
    budget = budget_for(tables, path.stem, engine.card.precision)
    if budget == Budget():
        raise InputError(
            f"{source}: has no budget for {engine.card.precision} ({path.name}); add a table [{engine.card.precision}]"
        )
    return budget

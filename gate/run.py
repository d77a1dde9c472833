"""The gate: engines against the fp32 network on the same pictures, each with its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from sr_deploy.budgets import Budget, budget_for, read_budgets, unused_names
from sr_deploy.card import ModelCard, check_scale
from sr_deploy.comparison import PictureResult
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures
from sr_deploy.gate.check import EngineResult, Key, Pair, failures_of, latencies_ms, measure
from sr_deploy.gate.models import Reference, open_reference
from sr_deploy.gate.options import GateOptions
from sr_deploy.gate.thresholds import threshold_ratios
from sr_deploy.gate.weights import largest_error_steps
from sr_deploy.notes import NOTES
from sr_deploy.options import check_type
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.runtime.backends.engine import Engine, on_cpu
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.engines.shipped import engine_file

WEIGHTS_ONLY = "weights only: on a CPU fp16 is computed in fp32"


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

    pairs: dict[Key, Pair]
    budgets: dict[Key, Budget]
    pictures: dict[Key, tuple[PictureResult, ...]]
    latencies_ms: dict[str, float]  # by the engine's file
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
        results = tuple(_judge(key, found, options.reference) for key in found.pairs)
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
    scales = {name: scales_of(engine.card, options.scale, name) for name, engine in engines.items()}
    budgets = {
        (name, scale): _budget(tables, Path(name), engine.card, scale, options.budget)
        for name, engine in engines.items()
        for scale in scales[name]
    }
    judged = engines if options.native_sums else exact_engines(engines, stack, threads=options.threads)
    pairs = _pairs(options, judged, scales, stack)
    references = {f"reference {id(pair.reference)}": pair.reference for pair in pairs.values()}
    timed = latencies_ms({**engines, **references})
    return _Measured(pairs, budgets, measure(pairs, paths), timed, min(timed[name] for name in references))


def _judge(key: Key, found: _Measured, reference: Path) -> EngineResult:
    """Return what one engine lost at one scale, with a line for each budget that it exceeds."""
    (name, scale), engine = key, found.pairs[key].engine
    result = EngineResult(
        found.pictures[key],
        name,
        engine.card.precision,
        scale,
        found.latencies_ms[name],
        found.budgets[key],
        WEIGHTS_ONLY if engine.card.precision == "fp16" and on_cpu(engine) else "",
        largest_error_steps(Path(name), reference, scale),
        threshold_ratios(Path(name), engine.card),
    )
    return replace(result, failures=failures_of(result))


def scales_of(card: ModelCard, asked: int | None, source: str) -> tuple[int, ...]:
    """Return the scales that an engine is measured at: the one that was asked for or calibrated for, or all that it serves.

    Raises:
        InputError: it does not serve the one that was asked for.
    """
    one = asked or card.calibrated_scale
    return card.scales if one is None else (check_scale(card, one, source=source),)


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


def _pairs(
    options: GateOptions, engines: Mapping[str, Engine], scales: Mapping[str, Sequence[int]], stack: ExitStack
) -> dict[Key, Pair]:
    opened: dict[object, Reference] = {}
    references: dict[object, Engine] = {}
    pairs = {}
    for name, scale in [(engine, scale) for engine in engines for scale in scales[engine]]:
        engine = engines[name]
        shape = engine.card.input_shape
        assert shape is not None
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
        pairs[name, scale] = Pair(engine, references[shape, scale], scale)
    return pairs


def _budget(tables: dict[str, object], path: Path, card: ModelCard, scale: int, source: Path) -> Budget:
    budget = budget_for(tables, path.stem, card.precision, scale)
    if budget == Budget():
        raise InputError(f"{source}: has no budget for {card.precision} ({path.name}); add a table [{card.precision}]")
    return budget

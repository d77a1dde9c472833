"""What ``sr-bench`` does: engines timed in turns and, on pictures, measured in decibels; nothing is printed here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_deploy.degrade import Color, Planes
from sr_deploy.errors import EngineError, InputError
from sr_deploy.files import list_pictures
from sr_deploy.options import check_positive, check_provider, check_threads, check_types
from sr_deploy.planes import read_measured
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.runtime.backends.engine import Engine, Provider
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.bench.peak import measure_peaks, with_shares
from sr_deploy.runtime.bench.quality import bicubic_db, check_measurable, mean_db
from sr_deploy.runtime.bench.table import Row, row
from sr_deploy.runtime.bench.timing import Comparison, best_per_tile, comparison, interleaved_ms, per_megapixel
from sr_deploy.runtime.engines.shipped import engine_file


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how."""

    engines: tuple[Path, ...]  # files, or names of shipped engines; ratios are to the first
    rounds: int = 15  # timed runs of each
    data: Path | None = None  # folder of high-resolution pictures to measure PSNR on
    scale: int | None = None  # factor of that; None: each engine's own
    peak_tflops: float | None = None  # the device's peak, in the precision of the engines; None: that of a matrix product here
    native_sums: bool = False  # PSNR of int8 as this processor computes it, not by exact sums
    provider: Provider = "auto"
    threads: int | None = None  # of the CPU; None: one for each core
    trusted: bool = False  # load a plan without a card or with host code

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value is outside its range."""
        check_types(self)
        if not self.engines:
            raise InputError("engines=(): none to time; name at least one")
        check_positive(rounds=self.rounds, scale=self.scale, peak_tflops=self.peak_tflops)
        check_provider(self.provider)
        check_threads(self.threads)


@dataclass(frozen=True)
class BenchResult:
    """What engines cost and give."""

    rows: tuple[Row, ...]  # by engine, and by the number of tiles at once
    scale: int  # of ``bicubic_psnr_db``: the one that was asked for, or the first engine's own
    bicubic_psnr_db: float | None  # of the same pictures, where there are any
    peaks: Mapping[str, float]  # 10^12 operations a second, by precision; those that are known
    machine: Mapping[str, str]  # processor, system and clocks
    warnings: tuple[str, ...] = ()  # what could not be measured, and why


def bench(options: BenchOptions, *, progress: OnStep | None = None) -> BenchResult:
    """Return the times of engines, and with pictures their PSNR; ``progress`` is called with how far it is.

    Raises:
        InputError: no such engine or picture, or one that cannot be measured.
        MachineError: what runs an engine is not on this machine.
        EngineError: an engine failed.
    """
    paths = [] if options.data is None else list_pictures(options.data)
    with progress_to(progress), ExitStack() as stack:
        engines = open_engines(options, stack)
        colors: set[Color] = {"y", *(engine.card.color for engine in engines.values())}
        pictures = {color: {path: read_measured(path, color) for path in paths} for color in sorted(colors)}
        for name, engine in engines.items():
            check_measurable(name, engine, pictures[engine.card.color], options.scale)
        times = time_engines(engines, options)
        warnings, peaks = [], dict[str, float]()
        if options.peak_tflops is not None:
            peaks = dict.fromkeys((engine.card.precision for engine in engines.values()), options.peak_tflops)
        else:
            try:
                peaks = measure_peaks(list(engines.values()), threads=options.threads)
            except EngineError as err:
                warnings.append(str(err))
        first = first_ms(engines, times)
        judged = engines if options.native_sums or not paths else exact_engines(engines, stack, threads=options.threads)
        quality = {name: measure_db(name, judged[name], pictures, options.scale) for name in engines}
        rows = [row(job, engines[job[0]], found, first, psnr_db=quality[job[0]]) for job, found in times.items()]
        rows = with_shares(rows, peaks, on_gpu=any(engine.gpu is not None for engine in engines.values()))
    factor = options.scale or next(iter(engines.values())).card.default_scale
    reference = bicubic_db(list(pictures["y"].values()), factor) if paths else None
    return BenchResult(tuple(rows), factor, reference, peaks, machine(), tuple(warnings))


def compare(options: BenchOptions, *, progress: OnStep | None = None) -> Comparison:
    """Return how many times as fast the second of two engines is, by megapixel of result.

    Raises:
        InputError: not two engines, or none of that name.
        MachineError: what runs an engine is not on this machine.
        EngineError: an engine failed.
    """
    if len(options.engines) != 2:
        raise InputError(f"engines: {len(options.engines)} are given, two are compared; name two")
    a, b = options.engines
    with progress_to(progress), ExitStack() as stack:
        engines = open_engines(options, stack)
        times = time_engines(engines, options)
        names = [str(engine_file(path, options.scale)) for path in (a, b)]
        first, second = (best_per_tile(times, name) for name in names)
        costs = [per_megapixel(engines[name].card, 1.0) for name in names]
    if costs[0] is not None and costs[1] is not None:  # a tile that is all halo has no result to compare by
        first, second = first * costs[0], second * costs[1]
    return comparison(first, second, a, b)


def open_engines(options: BenchOptions, stack: ExitStack) -> dict[str, Engine]:
    """Return the engines by their files; ``stack`` closes them."""
    files = [engine_file(path, options.scale) for path in options.engines]
    found = {}
    for path in files:
        engine = load(path, provider=options.provider, threads=options.threads, trusted=options.trusted)
        found[str(path)] = stack.enter_context(closing(engine))
    return found


def time_engines(engines: Mapping[str, Engine], options: BenchOptions) -> dict[tuple[str, int], list[float]]:
    """Return the times in milliseconds of each engine with each number of tiles that it takes at once."""
    jobs = {(name, batch): engine for name, engine in engines.items() for batch in engine.batches}
    return interleaved_ms(jobs, options.rounds, batches={job: job[1] for job in jobs})


def first_ms(engines: Mapping[str, Engine], times: Mapping[tuple[str, int], list[float]]) -> float | None:
    """Return what a megapixel of result costs in the first engine, in milliseconds."""
    (name, batch), found = next(iter(times.items()))
    return per_megapixel(engines[name].card, float(np.median(found)) / batch)


def measure_db(name: str, engine: Engine, pictures: Mapping[Color, Mapping[Path, Planes]], scale: int | None) -> float | None:
    """Return the mean PSNR in dB of an engine on pictures in its own colours; ``None`` without pictures."""
    return mean_db(name, engine, list(pictures[engine.card.color].values()), scale)

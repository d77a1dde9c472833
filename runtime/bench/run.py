"""What ``sr-bench`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard, check_scale
from sr_deploy.charts import check_charts, pareto_chart
from sr_deploy.console import table
from sr_deploy.degrade import Color, Planes, imresize, through_channels
from sr_deploy.errors import EngineError, InputError
from sr_deploy.files import check_reports, list_pictures, write_text
from sr_deploy.measure import bicubic, mean, score
from sr_deploy.planes import read_measured
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import CPU, Engine, Tiles, exact_engines, load
from sr_deploy.runtime.engines.shipped import engine_file
from sr_deploy.runtime.upscaling.tiling import run_whole

Key = TypeVar("Key")


@dataclass(frozen=True)
class Row:
    """One engine's figures."""

    engine: str
    precision: str
    batch: int  # tiles at once
    file_mb: float
    gmac: float  # of one tile
    p50_ms: float  # of one batch of tiles, host memory to host memory
    p90_ms: float
    p99_ms: float
    tiles_per_s: float  # at the median
    tops: float  # 10^12 operations a second, two for a multiplication and its addition
    share_of_peak: float | None  # of a matrix product here: fp32 on a CPU, fp16 on a GPU; int8 may be above 1
    ms_per_megapixel: float | None  # of result, halo taken off, at the median; None: a tile is all halo
    speedup: float | None  # over the first engine, by megapixel of result
    device_ms: tuple[float, float, float] | None  # p50, p90, p99 by the device's own clock, copies left out; None on a CPU
    device_mb: float | None  # memory of buffers and contexts on the device
    psnr_db: float | None


SETTLE_MS, SETTLE_RUNS = 150.0, 3  # untimed, before each timed run of a turn: the first limit to be reached
STABLE = 0.03  # two medians in a row that differ by less: warm
MOST_WARM_UPS = 40
MEASURED_SIDE = 11  # pixels that SSIM needs


def bench_command(arguments: argparse.Namespace) -> int:
    """Time every engine and return the exit code."""
    paths = list_pictures(arguments.data) if arguments.data else []
    files = {path: engine_file(path, arguments.scale) for path in arguments.engines}
    reports = {"--json": arguments.json, "--markdown": arguments.markdown, "--chart": arguments.chart}
    check_reports(reports, [*arguments.engines, *paths])
    if arguments.chart is not None:
        check_charts()
    with ExitStack() as stack:
        options = {"provider": arguments.provider, "threads": arguments.threads, "trusted": arguments.trust_plan}
        engines: dict[str, Engine] = {str(p): stack.enter_context(closing(load(p, **options))) for p in files.values()}
        colors: set[Color] = {"y", *(engine.card.color for engine in engines.values())}
        pictures = {color: {path: read_measured(path, color) for path in paths} for color in sorted(colors)}
        for name, engine in engines.items():
            check_measurable(name, engine, pictures[engine.card.color], arguments.scale)
        jobs = [(name, batch) for name, engine in engines.items() for batch in batches_of(engine)]
        runs = {job: engines[job[0]] for job in jobs}
        times = interleaved_ms(runs, arguments.rounds, batches={job: job[1] for job in jobs})
        if arguments.compare:
            a, b = arguments.compare
            first, second = (best_per_tile(times, str(files[path])) for path in (a, b))
            costs = [per_megapixel(engines[str(files[path])].card, 1.0) for path in (a, b)]
            if costs[0] is not None and costs[1] is not None:  # a tile that is all halo has no result to compare by
                first, second = first * costs[0], second * costs[1]
            print(comparison(first, second, a, b))
            return 0
        peak = arguments.peak_tflops or peak_tflops(list(engines.values()))
        on_gpu = any(hasattr(engine, "device_times_ms") for engine in engines.values())
        one = per_megapixel(engines[jobs[0][0]].card, float(np.median(times[jobs[0]])) / jobs[0][1])
        scale = Scale(one, peak, on_gpu)
        seen = {name: list(pictures[engine.card.color].values()) for name, engine in engines.items()}
        judged = {} if arguments.native_sums or not paths else exact_engines(engines, stack, threads=arguments.threads)
        quality = {name: mean_db(name, judged.get(name, engine), seen[name], arguments.scale) for name, engine in engines.items()}
        rows = [row(job, engines[job[0]], times[job], scale, psnr_db=quality[job[0]]) for job in jobs]
    factor = arguments.scale or next(iter(engines.values())).card.default_scale
    reference = bicubic_db(list(pictures["y"].values()), factor) if paths else None
    lines = _table(rows, reference)
    print(table(lines))
    for line in best_batches(rows):
        print(line)
    if arguments.markdown:
        write_text(arguments.markdown, table(lines, markdown=True) + "\n")
    if arguments.json:
        facts = {"machine": machine(), "peak_tflops": peak, "bicubic_psnr_db": reference, "results": [asdict(r) for r in rows]}
        write_text(arguments.json, json.dumps(facts, indent=2) + "\n")
    if arguments.chart:
        pareto_chart(points_of(rows), arguments.chart, title=f"x{factor}, {arguments.data.name}, {machine()['processor']}")
        print(f"{arguments.chart}: written")
    return 0


def points_of(rows: Sequence[Row]) -> dict[str, list[tuple[str, float, float]]]:
    """Return what a chart shows: for each network its engines as (precision, milliseconds of a megapixel, PSNR in dB)."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for r in rows:
        if r.psnr_db is not None and r.ms_per_megapixel is not None:
            network = Path(r.engine).stem.removesuffix(f"_{r.precision}")
            found.setdefault(network, []).append((r.precision, r.ms_per_megapixel, r.psnr_db))
    return found


def batches_of(engine: Engine) -> tuple[int, ...]:
    """Return how many tiles an engine can take at once: one number, or several for a plan with several profiles."""
    found: tuple[int, ...] = getattr(engine, "batches", ())
    return found or (_shape(engine.card)[0],)


def best_per_tile(times: Mapping[tuple[str, int], Sequence[float]], name: str) -> NDArray[np.float64]:
    """Return the times of one tile in an engine at the batch that is fastest by tile, in milliseconds."""
    found = [np.array(values) / batch for (engine, batch), values in times.items() if engine == name]
    return min(found, key=lambda values: float(np.median(values)))


def best_batches(rows: Sequence[Row]) -> list[str]:
    """Return a line for each engine that was timed with several batches: which has the most throughput."""
    lines = []
    for name in dict.fromkeys(r.engine for r in rows):
        own = [r for r in rows if r.engine == name]
        if len(own) > 1:
            best, one = max(own, key=lambda r: r.tiles_per_s), min(own, key=lambda r: r.batch)
            lines.append(
                f"{Path(name).name}: most throughput with {best.batch} tiles at once, {best.tiles_per_s:.1f} tiles/s, "
                f"{best.tiles_per_s / one.tiles_per_s:.2f} times that of {one.batch}"
            )
    return lines


def interleaved_ms(
    engines: Mapping[Key, Engine], rounds: int, *, batches: Mapping[Key, int] | None = None
) -> dict[Key, list[float]]:
    """Return the times of one batch of tiles by engine, in milliseconds; engines take turns once all are warm.

    ``batches`` says how many tiles at once, where it is not the number in the engine's card.
    """
    rng = np.random.default_rng(0)
    times: dict[Key, list[float]] = {name: [] for name in engines}
    sizes = batches or {}
    tiles = {
        name: rng.random((sizes.get(name, _shape(engine.card)[0]), *_shape(engine.card)[1:]), np.float32)
        for name, engine in engines.items()
    }
    for name, engine in engines.items():
        warm_up(partial(one_ms, engine, tiles[name]))
    with progress("timing", rounds) as advance:
        for _ in range(rounds):
            for name, engine in engines.items():
                if len(engines) > 1:
                    settle(partial(one_ms, engine, tiles[name]))
                times[name].append(one_ms(engine, tiles[name]))
            advance("")
    return times


def settle(run_ms: Callable[[], float]) -> None:
    """Run until what the engine before left behind is over: threads of ONNX Runtime spin for some time after their last run."""
    spent = 0.0
    for _ in range(SETTLE_RUNS):
        spent += run_ms()
        if spent >= SETTLE_MS:
            return


def comparison(first: NDArray[np.float64], second: NDArray[np.float64], a: Path, b: Path) -> str:
    """Return how many times as fast the second engine is, from costs taken in pairs, with the middle half of the ratios."""
    low, middle, high = np.percentile(first / second, (25, 50, 75))
    return f"{b} is {middle:.2f} times as fast as {a} (middle half of {len(first)} pairs: {low:.2f} to {high:.2f})"


def one_ms(engine: Engine, tiles: Tiles) -> float:
    """Return the wall time of one run in milliseconds."""
    began = time.perf_counter()
    engine.run(tiles)
    return 1000.0 * (time.perf_counter() - began)


def warm_up(run_ms: Callable[[], float]) -> int:
    """Run until the time is stable: two medians of three in a row within ``STABLE``; return the number of runs."""
    found = [run_ms() for _ in range(4)][1:]
    before = math.inf
    while abs(np.median(found[-3:]) - before) > STABLE * before or before == math.inf:
        if len(found) >= MOST_WARM_UPS:
            break
        before = float(np.median(found[-3:]))
        found += [run_ms() for _ in range(3)]
    return len(found) + 1


def peak_tflops(engines: Sequence[Engine]) -> float | None:
    """Return the peak of the device the engines run on, ``None`` where it cannot be measured."""
    on_gpu = next((engine for engine in engines if hasattr(engine, "device_times_ms")), None)
    if on_gpu is None:
        on_cpu = all(getattr(engine, "provider", CPU) == CPU for engine in engines)
        return cpu_peak_tflops() if on_cpu else None
    from sr_deploy.runtime.backends.tensorrt_peak import gpu_peak_tflops

    trt, cuda = (getattr(on_gpu, name) for name in ("trt", "cuda"))
    try:
        with progress("the GPU's peak", 1) as advance:
            found = gpu_peak_tflops(trt, cuda)
            advance("")
    except EngineError as err:
        print(f"sr-bench: warning: {err}", file=sys.stderr)
        return None
    return found


def cpu_peak_tflops(side: int = 1536, runs: int = 5) -> float:
    """Return the fp32 operations a second of the fastest of some matrix products here, in 10^12."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((side, side), np.float32) for _ in range(2))
    best = math.inf
    for _ in range(runs):
        began = time.perf_counter()
        np.matmul(a, b)
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 / best / 1e12


@dataclass(frozen=True)
class Scale:
    """What figures are set in relation to."""

    first_ms: float | None  # of a megapixel of result of the first engine
    peak_tflops: float | None
    on_gpu: bool = False  # whether the peak is that of a GPU


def row(job: tuple[str, int], engine: Engine, times: Sequence[float], scale: Scale, *, psnr_db: float | None = None) -> Row:
    """Return the figures of one engine with one number of tiles at once."""
    (name, batch), card = job, engine.card
    p50, p90, p99 = percentiles(times)
    tile_macs = (card.macs or 0) / _shape(card)[0]
    tops = 2.0 * tile_macs * batch / (p50 / 1000.0) / 1e12
    cost = per_megapixel(card, p50 / batch)
    device_times = getattr(engine, "device_times_ms", None)
    device_bytes = getattr(engine, "device_bytes", None)
    return Row(
        engine=name,
        precision=card.precision,
        batch=batch,
        file_mb=Path(name).stat().st_size / 1e6,
        gmac=tile_macs / 1e9,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        tiles_per_s=1000.0 * batch / p50,
        tops=tops,
        share_of_peak=None
        if scale.peak_tflops is None or (device_times is not None) != scale.on_gpu
        else tops / scale.peak_tflops,
        ms_per_megapixel=cost,
        speedup=None if scale.first_ms is None or cost is None else scale.first_ms / cost,
        device_ms=None if device_times is None else percentiles(device_times(len(times), batch)),
        device_mb=None if device_bytes is None else device_bytes / 1e6,
        psnr_db=psnr_db,
    )


def per_megapixel(card: ModelCard, tile_ms: float) -> float | None:
    """Return the milliseconds that a megapixel of result costs in tiles of ``tile_ms``, their halo taken off.

    So networks can be compared that enlarge before and inside, whatever their halo; ``None`` where a tile is all halo.
    """
    _, _, h, w = _shape(card)
    factor = (card.output_shape or _shape(card))[2] // h
    useful = max(h - 2 * card.halo, 0) * max(w - 2 * card.halo, 0) * factor**2
    return tile_ms / useful * 1e6 if useful else None


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p90 and p99."""
    p50, p90, p99 = (float(v) for v in np.percentile(times, (50, 90, 99)))
    return p50, p90, p99


def check_measurable(name: str, engine: Engine, pictures: Mapping[Path, Planes], scale: int | None) -> None:
    """Check before anything is timed that every picture can be measured.

    Raises:
        InputError: the engine does not serve the scale, or a picture is too small for it.
    """
    chosen = check_scale(engine.card, scale, source=name)
    least = MEASURED_SIDE + 3 * chosen  # cut to a multiple of the scale, and shaved by it on both sides
    for path, original in pictures.items():
        h, w = original.shape[-2:]
        if min(h, w) < least:
            raise InputError(f"{path}: {w}x{h} pixels is too small to measure at x{chosen}, {least} are needed; leave it out")


def mean_db(name: str, engine: Engine, pictures: Sequence[Planes], scale: int | None) -> float | None:
    """Return the mean PSNR in dB of an engine through its tiles, ``None`` without pictures (luma or RGB in grey levels)."""
    if not pictures:
        return None
    chosen = check_scale(engine.card, scale, source=name)

    def enlarge(lr: Planes, factor: int) -> Planes:
        given = imresize(lr, float(factor)) if engine.card.upscale == "before" else lr
        return through_channels(lambda planes: run_whole(engine, planes), given)

    return mean([score(enlarge, hr, chosen) for hr in pictures]).psnr_db


def bicubic_db(pictures: Sequence[Planes], scale: int) -> float:
    """Return the mean PSNR in dB of bicubic enlargement."""
    return mean([score(bicubic, hr, scale) for hr in pictures]).psnr_db


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.system(),
        **gpu_state(),
    }


def gpu_state() -> dict[str, str]:
    """Return the clocks and temperature of the first GPU, by nvidia-smi; nothing where there is none."""
    fields = ("name", "clocks.sm", "clocks.mem", "temperature.gpu")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command.append(f"--id={first or 0}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {f"gpu {name}": value.strip() for name, value in zip(fields, done.stdout.split(","), strict=False)}


def processor() -> str:
    """Return the processor's name and the vector extensions that decide how fast int8 is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", "").split())
    known = [flag for flag in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{fields.get('model name', platform.processor())} ({', '.join(known) or 'no vector extensions'})"


def _shape(card: ModelCard) -> tuple[int, int, int, int]:
    assert card.input_shape is not None
    return card.input_shape


def _table(rows: Sequence[Row], reference: float | None) -> list[list[str]]:
    """Return the cells: columns that no engine has a figure for are left out."""
    alone = all(r.batch == 1 for r in rows)
    digits = 1 if min(r.p50_ms for r in rows) >= 10.0 else 3
    columns: dict[str, Callable[[Row], str]] = {
        "engine": lambda r: Path(r.engine).name,
        "precision": lambda r: r.precision,
        "batch": lambda r: "" if alone else str(r.batch),
        "GMAC": lambda r: f"{r.gmac:.2f}",
        "p50 ms": lambda r: f"{r.p50_ms:.{digits}f}",
        "p90 ms": lambda r: f"{r.p90_ms:.{digits}f}",
        "p99 ms": lambda r: f"{r.p99_ms:.{digits}f}",
        "device ms": lambda r: "" if r.device_ms is None else f"{r.device_ms[0]:.3f}",
        "device MB": lambda r: "" if r.device_mb is None else f"{r.device_mb:.1f}",
        "tiles/s": lambda r: f"{r.tiles_per_s:.1f}",
        "TOP/s": lambda r: f"{r.tops:.2f}",
        "of peak": lambda r: "" if r.share_of_peak is None else f"{100 * r.share_of_peak:.0f} %",
        "ms/megapixel": lambda r: "" if r.ms_per_megapixel is None else f"{r.ms_per_megapixel:.1f}",
        "speed-up": lambda r: "" if r.speedup is None else f"{r.speedup:.2f}",
        "PSNR dB": lambda r: "" if r.psnr_db is None else f"{r.psnr_db:.3f}",
    }
    used = {name: cell for name, cell in columns.items() if any(cell(r) for r in rows)}
    cells = [[cell(r) for cell in used.values()] for r in rows]
    first = [] if reference is None else [["bicubic", *[""] * (len(used) - 2), f"{reference:.3f}"]]
    return [list(used), *first, *cells]

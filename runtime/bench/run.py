"""What ``sr-bench`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sr_deploy.card import check_scale
from sr_deploy.charts import check_charts, pareto_chart
from sr_deploy.console import table
from sr_deploy.degrade import Color, Planes, imresize, through_channels
from sr_deploy.errors import InputError
from sr_deploy.files import check_reports, list_pictures, write_text
from sr_deploy.measure import bicubic, mean, score
from sr_deploy.planes import read_measured
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.bench.machine import machine, peak_tflops
from sr_deploy.runtime.bench.table import Scale, best_batches, cells_of, points_of, row
from sr_deploy.runtime.bench.timing import (
    batches_of,
    best_per_tile,
    comparison,
    interleaved_ms,
    per_megapixel,
)
from sr_deploy.runtime.engines.shipped import engine_file
from sr_deploy.runtime.upscaling.tiling import run_whole

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
    lines = cells_of(rows, reference)
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

"""What ``sr-bench`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.console import progress, table
from sr_deploy.degrade import Plane, imresize
from sr_deploy.errors import InputError
from sr_deploy.files import check_reports, list_pictures, write_text
from sr_deploy.measure import bicubic, mean, score
from sr_deploy.pictures import read_luma
from sr_deploy.runtime.engine import Engine, load
from sr_deploy.runtime.tiling import Planes, run_whole
from sr_deploy.runtime.upscale import check_scale


@dataclass(frozen=True)
class Row:
    """One engine's figures."""

    engine: str
    precision: str
    file_mb: float
    gmac: float  # of one tile
    p50_ms: float
    p90_ms: float
    speedup: float  # over the first engine
    psnr_db: float | None


def bench_command(arguments: argparse.Namespace) -> int:
    """Time every engine and return the exit code."""
    paths = list_pictures(arguments.data) if arguments.data else []
    check_reports({"--json": arguments.json, "--markdown": arguments.markdown}, [*arguments.engines, *paths])
    pictures = [read_luma(path) for path in paths]
    with ExitStack() as stack:
        options = {"provider": arguments.provider, "threads": arguments.threads, "trusted": arguments.trust_plan}
        engines: dict[str, Engine] = {str(p): stack.enter_context(closing(load(p, **options))) for p in arguments.engines}
        times = interleaved_ms(engines, arguments.rounds)
        first = float(np.median(next(iter(times.values()))))
        rows = [
            row(name, engine.card, times[name], first, mean_db(name, engine, pictures, arguments.scale))
            for name, engine in engines.items()
        ]
    reference = bicubic_db(pictures, arguments.scale or next(iter(engines.values())).card.default_scale) if pictures else None
    lines = [_heading(pictures), *([_bicubic_line(reference)] if reference is not None else []), *(_line(r) for r in rows)]
    print(table(lines))
    if arguments.markdown:
        write_text(arguments.markdown, table(lines, markdown=True) + "\n")
    if arguments.json:
        facts = {"machine": machine(), "bicubic_psnr_db": reference, "results": [asdict(r) for r in rows]}
        write_text(arguments.json, json.dumps(facts, indent=2) + "\n")
    return 0


def interleaved_ms(engines: Mapping[str, Engine], rounds: int) -> dict[str, list[float]]:
    """Return the times of one batch of tiles by engine, in milliseconds; engines take turns, the first turn warms up."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in engines}
    tiles = {name: rng.random(_shape(engine.card), np.float32) for name, engine in engines.items()}
    with progress("timing", rounds + 1) as advance:
        for number in range(rounds + 1):
            for name, engine in engines.items():
                began = time.perf_counter()
                engine.run(tiles[name])
                if number:
                    times[name].append(1000.0 * (time.perf_counter() - began))
            advance("")
    return times


def row(name: str, card: ModelCard, times: Sequence[float], first: float, quality: float | None) -> Row:
    """Return the figures of one engine; ``first`` is the median of the first one in milliseconds."""
    p50, p90 = (float(v) for v in np.percentile(times, (50, 90)))
    return Row(name, card.precision, Path(name).stat().st_size / 1e6, (card.macs or 0) / 1e9, p50, p90, first / p50, quality)


def mean_db(name: str, engine: Engine, pictures: Sequence[Plane], scale: int | None) -> float | None:
    """Return the mean PSNR in dB of an engine through its tiles, ``None`` without pictures (luma in grey levels).

    Raises:
        InputError: the engine does not serve the scale, or a picture is too small for it.
    """
    if not pictures:
        return None
    chosen = check_scale(engine.card, scale, source=name)

    def enlarge(lr: Plane, factor: int) -> Plane:
        before = engine.card.upscale == "before"
        planes: Planes = (imresize(lr, float(factor)) if before else lr)[None]
        return np.asarray(run_whole(engine, planes)[0], np.float32)

    try:
        return mean([score(enlarge, hr, chosen) for hr in pictures]).psnr_db
    except ValueError as err:
        raise InputError(f"--data: a picture is too small to measure at x{chosen} ({err}); leave it out") from err


def bicubic_db(pictures: Sequence[Plane], scale: int) -> float:
    """Return the mean PSNR in dB of bicubic enlargement."""
    return mean([score(bicubic, hr, scale) for hr in pictures]).psnr_db


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.system(),
    }


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


def _heading(pictures: Sequence[Plane]) -> list[str]:
    return ["engine", "precision", "MB", "GMAC", "p50 ms", "p90 ms", "speed-up", *(["PSNR dB"] if pictures else [])]


def _bicubic_line(psnr_db: float) -> list[str]:
    return ["bicubic", "", "", "", "", "", "", f"{psnr_db:.3f}"]


def _line(r: Row) -> list[str]:
    figures = [f"{r.file_mb:.2f}", f"{r.gmac:.2f}", f"{r.p50_ms:.1f}", f"{r.p90_ms:.1f}", f"{r.speedup:.2f}"]
    return [Path(r.engine).name, r.precision, *figures, *([] if r.psnr_db is None else [f"{r.psnr_db:.3f}"])]

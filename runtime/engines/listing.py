"""``sr-infer --list``: the shipped engines and their measured quality; with ``--times`` how fast they are.

PSNR is from ``engines.json``. Speed is measured each time, for about a third of a second an engine: it is that of this machine at
this moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from sr_deploy.console import failed, table
from sr_deploy.errors import MachineError, SrDeployError
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Engine, Provider
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import FOLDER, Shipped, choose, shipped_engines
from sr_deploy.runtime.upscaling.tiling import grid_of
from sr_deploy.strict_json import json_text

PROG = "sr-infer"
LEAST_RUNS, ENOUGH_S = 3, 0.3  # timed runs of one tile, after two that are not


@dataclass(frozen=True)
class Speed:
    """What an engine does here, without decoding, colour and encoding."""

    megapixels_per_s: float  # of a large picture's result
    tiles: int  # that were timed; the median counts
    provider: str


def list_engines(
    *, provider: Provider = "auto", threads: int | None = None, timed: bool = False, as_json: bool = False, folder: Path = FOLDER
) -> int:
    """Print every shipped engine and return the exit code: 3 where one is damaged or, timed, does not run."""
    engines = shipped_engines(folder)
    speeds: dict[str, Speed] = {}
    reasons: dict[str, SrDeployError] = {}
    with progress("timing", len(engines) if timed else 0) as advance:
        for engine in engines:
            try:
                path = engine.path(folder)
                if timed:
                    with closing(load(path, provider=provider, threads=threads)) as loaded:
                        speeds[engine.name] = speed_of(loaded)
                    advance(engine.name)
            except SrDeployError as err:  # the others are still listed
                reasons[engine.name] = err
    if as_json:
        print(json_text({"engines": [facts(engine, speeds.get(engine.name)) for engine in engines]}), end="")
    else:
        print(table(rows_of(engines, speeds)))
        print("\n".join(footnotes(engines, list(speeds.values()))))
    for message in dict.fromkeys(map(str, reasons.values())):
        failed(PROG, message, 3)
    return max((err.exit_code for err in reasons.values()), default=0)


def speed_of(engine: Engine) -> Speed:
    """Return how fast an engine is: the useful part of a tile within a picture over the median time of a run."""
    shape = engine.card.input_shape
    if shape is None:
        raise MachineError("an engine of sr-deploy names no input shape; install sr-deploy again")
    tiles = np.random.default_rng(0).random(shape, np.float32)
    times: list[float] = []
    for _ in range(2):
        engine.run(tiles)
    while len(times) < LEAST_RUNS or sum(times) < ENOUGH_S:
        began = time.perf_counter()
        engine.run(tiles)
        times.append(time.perf_counter() - began)
    grid = grid_of(engine.card)
    useful = (grid.height - 2 * grid.halo) * (grid.width - 2 * grid.halo) * grid.factor**2
    return Speed(shape[0] * useful / median(times) / 1e6, len(times), engine.provider)


def rows_of(engines: Sequence[Shipped], speeds: dict[str, Speed]) -> list[list[str]]:
    """Return the cells of the table, a row for each engine and scale."""
    rows = [["engine", "scale", "PSNR dB", "fp32 dB", "kB", *(["MP/s"] if speeds else []), ""]]
    for engine in engines:
        speed = [f"{speeds[engine.name].megapixels_per_s:.2f}" if engine.name in speeds else "-"] if speeds else []
        for scale in engine.scales:
            default = "default" if choose(engines, None, scale) is engine else ""
            quality = f"{engine.psnr_db[scale]:.3f}", f"{engine.fp32_psnr_db[scale]:.3f}"
            rows.append([engine.name, f"x{scale}", *quality, f"{engine.bytes / 1000:.0f}", *speed, default])
    return rows


def footnotes(engines: Sequence[Shipped], speeds: Sequence[Speed]) -> list[str]:
    """Return what the columns are and how they were measured."""
    data = ", ".join(dict.fromkeys(engine.measured.data for engine in engines))
    lines = [
        f"PSNR: of luma on {data}, whole, measured by sr-eval; fp32: of the network that the engine was made from",
        "default: what sr-infer takes at that scale without --engine; x2 without --scale",
    ]
    if not speeds:
        lines.append("--list --times measures how fast each is here")
    else:
        tiles, providers = min(speed.tiles for speed in speeds), ", ".join({speed.provider: None for speed in speeds})
        how = f"the engine alone, measured here just now ({providers}, at least {tiles} tiles)"
        lines.append(f"MP/s: megapixels of the result per second, {how}")
    return lines


def facts(engine: Shipped, speed: Speed | None) -> dict[str, object]:
    """Return what ``--json`` tells of an engine; ``speed`` is null where it does not run here."""
    return {**asdict(engine), "scales": list(engine.scales), "speed": None if speed is None else asdict(speed)}

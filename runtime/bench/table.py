"""The figures of an engine, a row for each number of tiles at once, and the table they are shown in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.bench.timing import (
    per_megapixel,
    percentiles,
    tile_shape,
)


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
    share_of_peak: float | None  # of a matrix product here, 0 to 1: of the same precision on a CPU, of fp16 on a GPU
    ms_per_megapixel: float | None  # of result, halo taken off, at the median; None: a tile is all halo
    speedup: float | None  # over the first engine, by megapixel of result
    device_ms: tuple[float, float, float] | None  # p50, p90, p99 by the device's own clock, copies left out; None on a CPU
    device_mb: float | None  # memory of buffers and contexts on the device
    psnr_db: float | None


def points_of(rows: Sequence[Row]) -> dict[str, list[tuple[str, float, float]]]:
    """Return what a chart shows: for each network its engines as (precision, milliseconds of a megapixel, PSNR in dB)."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for r in rows:
        if r.psnr_db is not None and r.ms_per_megapixel is not None:
            network = Path(r.engine).stem.removesuffix(f"_{r.precision}")
            found.setdefault(network, []).append((r.precision, r.ms_per_megapixel, r.psnr_db))
    return found


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


def row(
    job: tuple[str, int], engine: Engine, times: Sequence[float], first_ms: float | None, *, psnr_db: float | None = None
) -> Row:
    """Return the figures of one engine with one number of tiles at once, but for its share of the peak.

    ``first_ms`` is what a megapixel of result takes the first engine.
    """
    (name, batch), card = job, engine.card
    p50, p90, p99 = percentiles(times)
    tile_macs = (card.macs or 0) / tile_shape(card)[0]
    tops = 2.0 * tile_macs * batch / (p50 / 1000.0) / 1e12
    cost = per_megapixel(card, p50 / batch)
    gpu = engine.gpu
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
        share_of_peak=None,
        ms_per_megapixel=cost,
        speedup=None if first_ms is None or cost is None else first_ms / cost,
        device_ms=None if gpu is None else percentiles(gpu.times_ms(len(times), batch)),
        device_mb=None if gpu is None else gpu.held_bytes / 1e6,
        psnr_db=psnr_db,
    )


def footnotes(rows: Sequence[Row]) -> list[str]:
    """Return a line for what the heading does not explain."""
    peaks = {r.precision: r.tops / r.share_of_peak for r in rows if r.share_of_peak}
    shown = ", ".join(f"{precision} {tops:.3g}" for precision, tops in peaks.items())
    return [f"of peak: TOP/s as a part of what a matrix product reaches here ({shown} TOP/s)"] if peaks else []


def cells_of(rows: Sequence[Row], reference: float | None) -> list[list[str]]:
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

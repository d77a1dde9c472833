"""Charts as PNG files, drawn by matplotlib where it is installed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.errors import MachineError
from sr_deploy.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
COLORS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#bbbbbb",
)  # Paul Tol's bright scheme, told apart by the colour-blind


def check_charts() -> None:
    """Check before any work that charts can be drawn.

    Raises:
        MachineError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as err:
        raise MachineError("charts need matplotlib, which is not installed; pip install 'sr-deploy[charts]'") from err


def sensitivity_chart(names: Sequence[str], drops_db: Mapping[int, Sequence[float]], path: Path, *, title: str) -> None:
    """Write a bar for each convolution and scale: by how many dB the PSNR falls with it alone in int8."""
    from matplotlib.figure import Figure

    scales = list(drops_db)
    figure = Figure(figsize=(max(6.0, 0.4 * len(names) * max(1, len(scales) / 2)), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(scales)
    for number, scale in enumerate(scales):
        places = [i + (number - (len(scales) - 1) / 2) * width for i in range(len(names))]
        axes.bar(places, drops_db[scale], width, label=f"x{scale}", color=COLORS[number % len(COLORS)])
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 12 else 45)
    axes.set_ylabel("PSNR drop, dB, this convolution alone in int8")
    axes.set_title(title)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.margins(x=0.01)
    axes.legend()
    _write(figure, path)


def pareto_chart(points: Mapping[str, Sequence[tuple[str, float, float]]], path: Path, *, title: str) -> None:
    """Write PSNR (dB) against latency (ms per megapixel of result): for each network its engines as (precision, ms, dB)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (network, engines) in enumerate(points.items()):
        color = COLORS[number % len(COLORS)]
        ordered = sorted(engines, key=lambda point: point[1])
        axes.plot([p[1] for p in ordered], [p[2] for p in ordered], "o-", color=color, label=network)
        for precision, ms, db in ordered:
            axes.annotate(
                precision, (ms, db), textcoords="offset points", xytext=(6, -14 if precision == "fp16" else 6), color=color
            )
    every = [ms for engines in points.values() for _, ms, _ in engines]
    if max(every) > 5.0 * min(every):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(LogFormatter())  # 200, not 2 x 10^2
        axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    axes.margins(0.15)  # room for the names
    axes.set_xlabel("ms per megapixel of result")
    axes.set_ylabel("mean PSNR, dB")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, content.getvalue())

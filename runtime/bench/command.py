"""``sr-bench``: what engines cost in milliseconds and, on pictures, in decibels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, positive_float, positive_int, thread_count

PROG = "sr-bench"


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-bench``."""
    p = Parser(PROG, "Time engines on one tile, interleaved so that ratios hold on a noisy machine.")
    p.add_argument(
        "engines",
        nargs="*",
        type=Path,
        metavar="ENGINE",
        help="engine (.onnx, .plan or a name of sr-infer --list); ratios are to the first",
    )
    p.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="only say how many times as fast B is, by megapixel of result"
    )
    p.add_argument("--rounds", type=positive_int, default=15, metavar="N", help="timed runs of each engine (default: 15)")
    p.add_argument("--peak-tflops", type=positive_float, metavar="P", help="the device's peak (default: a matrix product here)")
    p.add_argument("--data", type=Path, metavar="DIR", help="high-resolution pictures: adds a column of PSNR")
    p.add_argument("--scale", type=positive_int, metavar="N", help="factor for PSNR (default: each engine's own)")
    p.add_argument("--provider", choices=PROVIDERS, default="auto", help="where ONNX Runtime runs (default: auto)")
    p.add_argument("--native-sums", action="store_true", help=f"PSNR: {NATIVE_SUMS}")
    p.add_argument("--trust-plan", action="store_true", help="load a plan without a card or with host code: you vouch for it")
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    p.add_argument("--chart", type=Path, metavar="FILE", help="draw PSNR against latency (.png); needs --data and matplotlib")
    p.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-bench`` and return its exit code."""
    arguments = parser().parse_args(argv)
    if bool(arguments.engines) == bool(arguments.compare):
        parser().error("name engines to time, or two with --compare, not both")
    extra = [
        f"--{name}"
        for name in ("data", "scale", "json", "markdown", "chart", "peak_tflops")
        if getattr(arguments, name) is not None
    ]
    if arguments.compare and extra:
        parser().error(f"--compare only says a ratio; leave out {', '.join(extra).replace('_', '-')}")
    if arguments.chart is not None and arguments.data is None:
        parser().error(f"--chart {arguments.chart} draws PSNR against latency; name pictures with --data")
    arguments.engines = arguments.compare or arguments.engines

    def command() -> int:
        from sr_deploy.runtime.bench.run import bench_command

        return bench_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

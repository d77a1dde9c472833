"""``sr-bench``: what engines cost in milliseconds and, on pictures, in decibels."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.console import failed, run, table
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, positive_float, positive_int, thread_count
from sr_deploy.strict_json import json_text

if TYPE_CHECKING:
    from sr_deploy.runtime.bench import BenchOptions, BenchResult

PROG = "sr-bench"


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-bench``."""
    p = Parser(PROG, "Time engines on one tile, interleaved so that ratios hold on a noisy machine.")
    p.add_argument(
        "engines",
        nargs="*",
        type=Path,
        metavar="ENGINE",
        help="engine: .onnx, .plan or a name of sr-infer --list; ratios are to the first",
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
    p = parser()
    arguments = p.parse_args(argv)
    check_together(p, arguments)

    def command() -> int:
        from sr_deploy.runtime.bench import BenchOptions, bench, compare

        options = BenchOptions(
            engines=tuple(arguments.compare or arguments.engines),
            rounds=arguments.rounds,
            data=arguments.data,
            scale=arguments.scale,
            peak_tflops=arguments.peak_tflops,
            native_sums=arguments.native_sums,
            provider=arguments.provider,
            threads=arguments.threads,
            trusted=arguments.trust_plan,
        )
        reports = Reports(arguments.json, arguments.markdown, arguments.chart)
        reports.check(options)
        if arguments.compare:
            print(compare(options))
            return 0
        result = bench(options)
        for line in result.warnings:
            failed(PROG, f"warning: {line}", 0)
        reports.write(result, options)
        return 0

    return run(PROG, command)


def check_together(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with exit code 2 where arguments do not go together."""
    if bool(arguments.engines) == bool(arguments.compare):
        p.error("name engines to time, or two with --compare, not both")
    names = ("data", "scale", "json", "markdown", "chart", "peak_tflops")
    extra = [f"--{name}" for name in names if getattr(arguments, name) is not None]
    if arguments.compare and extra:
        p.error(f"--compare only says a ratio; leave out {', '.join(extra).replace('_', '-')}")
    if arguments.chart is not None and arguments.data is None:
        p.error(f"--chart {arguments.chart} draws PSNR against latency; name pictures with --data")


@dataclass(frozen=True)
class Reports:
    """Where the figures go, besides the terminal."""

    json: Path | None
    markdown: Path | None
    chart: Path | None

    def check(self, options: BenchOptions) -> None:
        """Check, before anything is timed, that the files can be written.

        Raises:
            InputError: one would replace what is read.
            MachineError: matplotlib is missing.
        """
        from sr_deploy.charts import check_charts
        from sr_deploy.files import check_reports, list_pictures

        pictures = [] if options.data is None else list_pictures(options.data)
        named = {"--json": self.json, "--markdown": self.markdown, "--chart": self.chart}
        check_reports(named, [*options.engines, *pictures])
        if self.chart is not None:
            check_charts()

    def write(self, result: BenchResult, options: BenchOptions) -> None:
        """Print the table and write the files."""
        from sr_deploy.charts import pareto_chart
        from sr_deploy.files import write_text
        from sr_deploy.runtime.bench.table import best_batches, cells_of, footnotes, points_of

        lines, notes = cells_of(result.rows, result.bicubic_psnr_db), footnotes(result.rows)
        print(table(lines), *notes, *best_batches(result.rows), sep="\n")
        if self.markdown is not None:
            write_text(self.markdown, "\n\n".join([table(lines, markdown=True), *notes]) + "\n")
        if self.json is not None:
            facts = {
                "machine": dict(result.machine),
                "peak_tflops": result.peaks.get("fp32", result.peaks.get("fp16")),
                "peak_int8_tops": result.peaks.get("int8"),
                "bicubic_psnr_db": result.bicubic_psnr_db,
                "results": [asdict(row) for row in result.rows],
            }
            write_text(self.json, json_text(facts))
        if self.chart is not None and options.data is not None:
            title = f"x{result.scale}, {options.data.name}, {result.machine['processor']}"
            pareto_chart(points_of(result.rows), self.chart, title=title)
            print(f"{self.chart}: written")


if __name__ == "__main__":
    sys.exit(main())

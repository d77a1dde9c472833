"""``sr-gate``: engines against the fp32 network, with a budget; exit 1 when one lost too much."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.budgets import BUDGETS
from sr_deploy.console import failed, run
from sr_deploy.errors import SrDeployError
from sr_deploy.gate.options import GateOptions
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, options_from, positive_int, thread_count

if TYPE_CHECKING:
    from sr_deploy.gate.run import GateResult

PROG = "sr-gate"


def reference_path(text: str) -> Path:
    """Return the trained checkpoint that ``text`` is the name of, else ``text`` as a path."""
    from sr_deploy.train.weights.pretrained import checkpoint_path

    return checkpoint_path(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-gate``."""
    p = Parser(PROG, "Compare engines with the fp32 network on pictures; exit 1 if one lost more than its budget.")
    p.add_argument("engines", nargs="+", type=Path, metavar="ENGINE", help="engine: .onnx, .plan or a name of sr-infer --list")
    p.add_argument(
        "--reference",
        type=reference_path,
        required=True,
        metavar="MODEL",
        help="the fp32 network: checkpoint (in a checkout a name in train/pretrained) or fp32 graph",
    )
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="high-resolution pictures")
    p.add_argument(
        "--budget", type=Path, default=BUDGETS, metavar="FILE", help="budgets in TOML (default: those of sr-deploy, %(default)s)"
    )
    p.add_argument("--scale", type=positive_int, metavar="N", help="factor (default: every one that an engine serves)")
    p.add_argument("--provider", choices=PROVIDERS, default="auto", help="where ONNX Runtime runs (default: auto)")
    p.add_argument("--native-sums", action="store_true", help=NATIVE_SUMS)
    p.add_argument("--trust-plan", action="store_true", help="load a plan without a card or with host code: you vouch for it")
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    p.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML")
    p.add_argument(
        "--summary", type=Path, metavar="FILE", help="append a Markdown summary (in GitHub Actions: $GITHUB_STEP_SUMMARY)"
    )
    return p


@dataclass(frozen=True)
class Reports:
    """Where the verdict goes, besides the terminal."""

    json: Path | None
    junit: Path | None
    summary: Path | None

    def check(self, engines: Sequence[Path], options: GateOptions) -> None:
        """Check, before anything is measured, that the files can be written.

        Raises:
            InputError: one would replace what is read.
        """
        from sr_deploy.files import check_reports, list_pictures
        from sr_deploy.runtime.engines.shipped import engine_file

        files = [engine_file(path, options.scale) for path in engines]
        named = {"--json": self.json, "--junit": self.junit, "--summary": self.summary}
        check_reports(named, [*files, options.reference, options.budget, *list_pictures(options.data)])

    def write(self, result: GateResult, options: GateOptions) -> SrDeployError | None:
        """Write the files; return what kept the first one from being written."""
        from sr_deploy.gate.report.text import append_summary, write_json, write_junit

        problem: SrDeployError | None = None
        reference = str(options.reference)
        writers: Sequence[tuple[Path | None, Callable[[Path], None]]] = (
            (self.json, lambda path: write_json(path, result.results, reference, str(options.data))),
            (self.junit, lambda path: write_junit(path, result.results)),
            (self.summary, lambda path: append_summary(path, result.results, reference, result.reference_ms)),
        )
        for path, write in writers:
            if path is not None:
                try:
                    write(path)
                except SrDeployError as err:
                    problem = problem or err
        return problem


def show(result: GateResult, options: GateOptions, reports: Reports) -> int:
    """Write the reports, print the table and a line for each failure, and return the exit code.

    The verdict is given even when a report cannot be written, and the reports are written even when nobody reads the table.
    """
    from sr_deploy.gate.report.text import result_table

    problem = reports.write(result, options)
    try:
        print(result_table(result.results, str(options.reference), result.reference_ms), flush=True)
    finally:
        for line in result.failures:
            failed(PROG, line, 1)
    if problem is not None and result.passed:
        raise problem
    if problem is not None:
        failed(PROG, str(problem), problem.exit_code)
    return 0 if result.passed else 1


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-gate`` and return its exit code."""
    arguments = parser().parse_args(argv)
    reports = Reports(arguments.json, arguments.junit, arguments.summary)

    def command() -> int:
        from sr_deploy.gate.run import gate

        options = options_from(GateOptions, arguments)
        reports.check(arguments.engines, options)
        return show(gate(arguments.engines, options), options, reports)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

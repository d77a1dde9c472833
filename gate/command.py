"""``sr-gate``: engines against the fp32 network, with a budget; exit 1 when one lost too much."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.options import NATIVE_SUMS, PROVIDERS, Parser, positive_int, thread_count

PROG = "sr-gate"
BUDGETS = Path(__file__).with_name("gates.toml")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-gate``."""
    p = Parser(PROG, "Compare engines with the fp32 network on pictures; exit 1 if one lost more than its budget.")
    p.add_argument(
        "engines", nargs="+", type=Path, metavar="ENGINE", help="engine (.onnx or .plan), or the name of one that comes along"
    )
    p.add_argument("--reference", type=Path, required=True, metavar="MODEL", help="the fp32 network: checkpoint or fp32 graph")
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="high-resolution pictures")
    p.add_argument(
        "--budget", type=Path, default=BUDGETS, metavar="FILE", help="budgets in TOML (default: those of sr-deploy, %(default)s)"
    )
    p.add_argument("--scale", type=positive_int, metavar="N", help="factor (default: each engine's own)")
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


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-gate`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        from sr_deploy.gate.run import gate_command

        return gate_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

"""``sr-doctor``: what this machine can do, and for each missing thing the one command that gets it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.options import Parser

PROG = "sr-doctor"
NEEDS = ("cpu", "cuda", "tensorrt", "train", "compress", "export", "hdf5", "charts", "video", "libvips", "metrics")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-doctor``."""
    p = Parser(PROG, "Say what this machine can do, and the command that mends what is missing.")
    p.add_argument(
        "--need", nargs="+", choices=NEEDS, default=[], metavar="EXTRA", help=f"exit 1 unless usable: {', '.join(NEEDS)}"
    )
    p.add_argument(
        "--json", type=Path, metavar="FILE", help="write the findings as JSON; - for standard output instead of the table"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-doctor`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        from sr_deploy.runtime.doctor.run import DoctorOptions, doctor

        return doctor(DoctorOptions(tuple(arguments.need), arguments.json))

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

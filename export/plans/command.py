"""``sr-build``: graphs to TensorRT plans, on a machine that has TensorRT and an NVIDIA GPU."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from sr_deploy.console import missing_package, run
from sr_deploy.errors import MachineError
from sr_deploy.export.plans.options import HARDEST, BuildOptions
from sr_deploy.files import cache_folder
from sr_deploy.options import Parser, options_from, positive_int

PROG = "sr-build"
NAMED = {"batches": "batch", "hardware_compatible": "hardware_compat"}  # options that the command line calls otherwise


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-build``."""
    p = Parser(PROG, "Build TensorRT plans from graphs; a plan appears only when it computes what its graph computes.")
    p.add_argument("graphs", nargs="+", type=Path, metavar="GRAPH", help="graph made by sr-export (.onnx)")
    p.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the plans (default: beside the graph)")
    p.add_argument(
        "--batch", type=positive_int, nargs="+", default=[1], metavar="N", help="tiles at once; several: one profile each"
    )
    p.add_argument(
        "--opt-level", type=int, choices=range(HARDEST + 1), metavar="L", help="0 to 5, how long to search (default: TensorRT's)"
    )
    p.add_argument(
        "--timing-cache",
        type=Path,
        default=cache_folder(),
        metavar="DIR",
        help="folder of measured kernels (default: the user's cache)",
    )
    p.add_argument("--no-timing-cache", dest="timing_cache", action="store_const", const=None, help="measure every kernel again")
    p.add_argument("--hardware-compat", action="store_true", help="for every GPU from Ampere on; slower (TensorRT 8.6 and later)")
    p.add_argument(
        "--version-compatible", action="store_true", help="for later TensorRT of the same major version; slower (8.6 and later)"
    )
    p.add_argument(
        "--calibrator", choices=("native",), help="make int8 plans of fp32 graphs by TensorRT's own calibration (up to 10.16)"
    )
    p.add_argument("--calib", type=Path, metavar="DIR", help="photographs for --calibrator (default: those of the project)")
    p.add_argument("--force", action="store_true", help="build again what is up to date")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-build`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        options = options_from(BuildOptions, arguments, NAMED)
        options = replace(options, batches=tuple(dict.fromkeys(options.batches)))
        with missing_package("export"):
            from sr_deploy.export.plans.run import build
        try:
            build(arguments.graphs, options)
        except MachineError as err:
            if type(err) is not MachineError:
                raise  # TensorRT or CUDA failed: it is here, and said why
            instead = f"the graph runs as it is: sr-infer --engine {arguments.graphs[0]} PICTURE"
            raise MachineError(f"no plan was built: {err}; {instead}") from err
        return 0

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

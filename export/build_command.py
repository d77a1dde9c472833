"""``sr-build``: graphs to TensorRT plans, on a machine that has TensorRT and an NVIDIA GPU."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from sr_deploy.console import Parser, run
from sr_deploy.errors import InputError, MachineError

PROG = "sr-build"


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-build``."""
    p = Parser(PROG, "Build TensorRT plans. This version checks the machine and says what works instead; it builds no plan yet.")
    p.add_argument("graphs", nargs="+", type=Path, metavar="GRAPH", help="graph made by sr-export (.onnx)")
    p.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the plans (default: beside the graph)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-build`` and return its exit code."""
    arguments = parser().parse_args(argv)
    return run(PROG, lambda: build_command(arguments))


def build_command(arguments: argparse.Namespace) -> int:
    """Check the graphs and the machine.

    Raises:
        InputError: a graph is missing or damaged.
        MachineError: always, saying what is missing and what works instead.
    """
    from sr_deploy.runtime.onnx_file import read_card

    for graph in arguments.graphs:
        if graph.suffix != ".onnx":
            raise InputError(f"{graph}: not a graph ({graph.suffix or 'no suffix'}); name an .onnx made by sr-export")
        read_card(graph)
    instead = f"the graph runs as it is: sr-infer --engine {arguments.graphs[0]} PICTURE"
    raise MachineError(f"no plan was built: {missing()}; {instead}")


def missing() -> str:
    """Return what keeps this machine from building a plan."""
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed"
    if not Path("/dev/nvidiactl").exists():
        return "TensorRT is installed, but there is no NVIDIA GPU"
    return "this version of sr-deploy does not build plans yet"


if __name__ == "__main__":
    sys.exit(main())

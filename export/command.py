"""``sr-export``: a checkpoint to ONNX graphs in fp32, fp16 and int8."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import Parser, missing_package, positive_int, run, thread_count

PROG = "sr-export"
METHODS = ("kl-weighted", "kl", "minmax", "percentile", "mse")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-export``."""
    p = Parser(PROG, "Export a checkpoint as fixed-shape ONNX graphs.")
    p.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="network (.safetensors; .pt, .pth of well-known repositories)"
    )
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the graphs")
    p.add_argument(
        "--precision", nargs="+", choices=("fp32", "fp16", "int8"), default=["fp32", "fp16", "int8"], help="default: all three"
    )
    p.add_argument(
        "--shape",
        type=int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="input shape (default: 1 1 256 256, of RGB networks 1 3 256 256)",
    )
    p.add_argument(
        "--scale",
        type=positive_int,
        metavar="N",
        help="factor to calibrate for, and to take out of an mdsr (default: the checkpoint's)",
    )
    p.add_argument("--calib", type=Path, metavar="DIR", help="photographs to calibrate on (default: those of the project)")
    p.add_argument("--calib-tiles", type=positive_int, default=48, metavar="N", help="most tiles to calibrate on (default: 48)")
    p.add_argument(
        "--method",
        choices=METHODS,
        help="how thresholds are chosen (default: kl-weighted; minmax for networks that enlarge inside)",
    )
    p.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="use these thresholds, or a TensorRT calibration cache; refused if made for another graph",
    )
    p.add_argument(
        "--keep", nargs="+", default=[], metavar="NAME", help="more convolutions that stay out of int8, by module path"
    )
    p.add_argument("--all-layers", action="store_true", help="quantize the first and last convolution too (costs quality)")
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-export`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        with missing_package("export"):
            from sr_deploy.export.stage import export_command
        return export_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

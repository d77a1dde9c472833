"""``sr-export``: a checkpoint to ONNX graphs in fp32, fp16 and int8."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import missing_package, run
from sr_deploy.export.options import METHODS, PRECISIONS, ExportOptions
from sr_deploy.options import Parser, options_from, positive_float, positive_int, set_defaults_, thread_count
from sr_deploy.train.weights.pretrained import checkpoint_path

PROG = "sr-export"
NAMED = {"precisions": "precision", "max_drop_db": "max_drop"}  # options that the command line calls otherwise


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-export``."""
    p = Parser(PROG, "Export a checkpoint as fixed-shape ONNX graphs.")
    p.add_argument(
        "checkpoint",
        type=checkpoint_path,
        metavar="CHECKPOINT",
        help="network (.safetensors; .pt, .pth of well-known repositories; in a checkout a name in train/pretrained)",
    )
    p.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the graphs")
    p.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="graphs to make (default: all three)")
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
        help="factor to calibrate for, and to take out of an mdsr (default: all the checkpoint serves, together; of an mdsr, "
        "its default)",
    )
    add_calibration_arguments(p.add_argument_group("thresholds of int8"))
    add_guard_arguments(p.add_argument_group("accuracy of int8"))
    p.add_argument("--threads", type=thread_count, metavar="N", help="CPU threads (default: all cores)")
    set_defaults_(p, ExportOptions)
    return p


def add_calibration_arguments(g: argparse._ArgumentGroup) -> None:
    """Add how thresholds are made, and what stays in float from the start."""
    g.add_argument("--calib", type=Path, metavar="DIR", help="photographs to calibrate on (default: those of the project)")
    g.add_argument("--calib-tiles", type=positive_int, metavar="N", help="most tiles to calibrate on (default: 48)")
    g.add_argument(
        "--method",
        choices=METHODS,
        help="how thresholds are chosen (default: mse; minmax for networks that enlarge inside)",
    )
    g.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        help="move each threshold to where it harms the output least (default: yes, unless --method is given)",
    )
    g.add_argument(
        "--correct-bias",
        action=argparse.BooleanOptionalAction,
        help="subtract the mean shift that quantization adds to each output channel (default: yes, unless --method is given)",
    )
    g.add_argument(
        "--thresholds",
        type=Path,
        metavar="FILE",
        help="use these thresholds, or a TensorRT calibration cache; an error if they were made for another graph",
    )
    g.add_argument("--keep", nargs="+", metavar="NAME", help="more convolutions to keep in float, by module path")
    g.add_argument("--all-layers", action="store_true", help="quantize the first and last convolution too (costs quality)")


def add_guard_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what is measured of int8, and what follows from it."""
    g.add_argument(
        "--max-drop",
        type=positive_float,
        metavar="DB",
        help="accuracy guard: keep layers in float until the PSNR is at most so many dB below fp32's, at every scale served; "
        "exit 1 without an int8 graph where nothing fits",
    )
    g.add_argument(
        "--budget",
        type=Path,
        metavar="FILE",
        help="what else int8 may lose, in TOML as of sr-gate, on whole pictures (default: the budgets of sr-deploy, unless "
        "--max-drop allows more than they do)",
    )
    g.add_argument(
        "--sensitivity", action="store_true", help="print what each layer alone costs in int8, and draw it (NAME_sensitivity.png)"
    )
    g.add_argument(
        "--select", type=Path, metavar="DIR", help="photographs to measure on, none of --calib (default: those of the project)"
    )
    g.add_argument("--select-tiles", type=positive_int, metavar="N", help="most tiles a scale to measure on (default: 12)")


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-export`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        options = options_from(ExportOptions, arguments, NAMED)
        with missing_package("export"):
            from sr_deploy.export.run import export
        export(arguments.checkpoint, options)
        return 0

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

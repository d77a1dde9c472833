"""``sr-train``: folders of pictures to a checkpoint."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from sr_deploy.console import missing_package, run
from sr_deploy.options import Parser, natural_int, options_from, positive_float, positive_int, set_defaults_
from sr_deploy.train.arguments import add_recipe_arguments
from sr_deploy.train.options import ARCHS, DAMAGES, PAPERS, PrepareOptions, TrainOptions
from sr_deploy.train.weights.pretrained import checkpoint_path

PROG = "sr-train"


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-train``."""
    p = Parser(
        PROG,
        "Train a super-resolution network on folders of pictures; sr-train --arch edsr --help shows the defaults of its paper.",
    )
    p.usage = f"{PROG} DIR [DIR ...] -o FILE [options]\n       {PROG} DIR [DIR ...] --prepare FILE [options]"
    p.add_argument(
        "data", nargs="+", type=Path, metavar="DIR", help="folder of high-resolution pictures, or HDF5 file of patches (.h5)"
    )
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="checkpoint to write (.safetensors)")
    p.add_argument(
        "--val", type=Path, metavar="DIR", help="folder whose PSNR is reported at every checkpoint, shrunk by bicubic, clean"
    )
    p.add_argument(
        "--init-from",
        type=checkpoint_path,
        metavar="FILE",
        help="start from this checkpoint (in a checkout also a name in train/pretrained): the parts that fit, or grown",
    )
    p.add_argument("--resume", action="store_true", help="continue the run that wrote -o")
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    add_network_arguments(p.add_argument_group("network"))
    add_data_arguments(p.add_argument_group("data"))
    add_recipe_arguments(p)
    set_defaults_(p, TrainOptions)
    return p


def add_network_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what decides which network is trained."""
    g.add_argument("--arch", choices=ARCHS, help="network (default: vdsr)")
    g.add_argument("--width", type=positive_int, metavar="N", help="filters of every inner convolution (default: the paper's)")
    g.add_argument("--preset", metavar="P", help="plain: m, l or xl (default: l); edsr, mdsr: baseline or large (baseline)")
    g.add_argument("--blocks", type=positive_int, metavar="N", help="residual blocks (default: the paper's)")
    g.add_argument("--res-scale", type=positive_float, metavar="F", help="residual scaling of edsr and mdsr (default: 1)")
    g.add_argument(
        "--expand",
        type=natural_int,
        metavar="N",
        help="train each kernel as a product of one N times as wide; it is multiplied out when saved (plain: 4, the others: 0)",
    )
    g.add_argument("--color", choices=("y", "rgb"), help="what the network enlarges, luma or RGB (default: y)")
    g.add_argument(
        "--scale",
        type=int,
        nargs="+",
        metavar="N",
        help="factors to serve, vdsr and mdsr several (2 3 4), the others one; one named twice is drawn twice as often",
    )


def add_data_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what decides what is cut from which pictures."""
    g.add_argument(
        "--patch",
        type=positive_int,
        metavar="N",
        help="patch side in pixels of the original (vdsr: 41, edsr: 48 x scale, srresnet: 96); where one network "
        "enlarges by several factors, in pixels of the low-resolution picture, the same for every factor (48)",
    )
    g.add_argument(
        "--shrink", type=float, nargs="+", metavar="F", help="sizes each picture is used at (vdsr: 1 0.7, the others: 1)"
    )
    g.add_argument(
        "--lr-dir",
        type=Path,
        metavar="DIR",
        help="low-resolution pictures, named as DIV2K's (0001x2.png or X2/0001x2.png) or as the originals (default: bicubic)",
    )
    g.add_argument(
        "--range",
        metavar="R",
        help="positions of the pictures to use: 1-800; 1-800/801-810 validates on the second, without --val",
    )
    g.add_argument(
        "--detail",
        type=float,
        metavar="E",
        help="draw patches by (bicubic error) ** E (default: 0, uniform)",
    )
    g.add_argument(
        "--degrade",
        nargs="+",
        choices=DAMAGES,
        metavar="KIND",
        help="damage half of the low-resolution patches as photographs are: blur, noise, jpeg, or several, in this order; --val "
        "stays clean; not for vdsr, which reads enlarged patches, nor for .h5 (default: all are clean)",
    )
    g.add_argument(
        "--prepare",
        type=Path,
        metavar="FILE",
        help="write the patches of all pictures, on a grid, to this HDF5 file (.h5), and train nothing",
    )
    g.add_argument("--stride", type=positive_int, metavar="N", help="pixels between patches of --prepare (default: the patch)")


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-train`` and return its exit code."""
    p = parser()
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--arch", nargs="?")
    named, _ = first.parse_known_args(argv)
    p.set_defaults(**vars(PAPERS.get(named.arch, PAPERS["vdsr"])))
    arguments = p.parse_args(argv)
    check_task(p, arguments)
    return run(PROG, partial(prepare_command if arguments.prepare is not None else train_command, arguments))


def check_task(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a line where options for training and for ``--prepare`` are mixed."""
    if arguments.prepare is None and arguments.output is None:
        p.error("the following arguments are required: -o/--output")
    if arguments.prepare is not None and arguments.output is not None:
        p.error(f"--prepare {arguments.prepare} writes patches and trains nothing; leave -o {arguments.output} out")
    training = {"--init-from": arguments.init_from, "--val": arguments.val, "--resume": arguments.resume or None}
    for option, given in {**training, "--degrade": arguments.degrade}.items():
        if arguments.prepare is not None and given is not None:
            p.error(f"--prepare {arguments.prepare} writes patches and trains nothing; leave {option} out")
    if arguments.prepare is None and arguments.stride is not None:
        p.error(f"--stride {arguments.stride} belongs to --prepare FILE.h5")


def train_command(arguments: argparse.Namespace) -> int:
    """Train as the command line asks and return the exit code."""
    options = options_from(TrainOptions, arguments)
    with missing_package("train"):
        from sr_deploy.train.reporting import reporter
        from sr_deploy.train.run import train
    result = train(options, report=reporter())
    print(f"{result.checkpoint}: written; its training state is {result.state.name}")
    return 0


def prepare_command(arguments: argparse.Namespace) -> int:
    """Write patches as the command line asks and return the exit code."""
    options = options_from(PrepareOptions, arguments, {"output": "prepare"})
    with missing_package("train"):
        from sr_deploy.train.run import prepare
    result = prepare(options)
    side = f"{result.side}x{result.side}"
    print(f"{result.path}: written; {result.patches} patches of {side} from {result.pictures} picture(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

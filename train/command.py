"""``sr-train``: folders of pictures to a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import missing_package, run
from sr_deploy.options import Parser, natural_int, positive_float, positive_int
from sr_deploy.train.arguments import add_recipe_arguments

PROG = "sr-train"
ARCHS = ("plain", "vdsr", "edsr", "mdsr", "srresnet", "srgan")
DAMAGES = ("blur", "noise", "jpeg")  # as in train/data/damage.py, which --help does not wait for
ADAM = {
    **{"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip_mode": "none"},
    **{"schedule": "halve", "batch_size": 16},
}
# What a paper says where it differs from VDSR's; the patch is of the enlarged picture.
DEFAULTS: dict[str, dict[str, object]] = {
    "plain": {**ADAM, "loss": "l1", "scale": [2], "lr": 2e-3, "schedule": "cosine", "warmup": 100, "ema": 0.999, "expand": 4},
    "edsr": {**ADAM, "loss": "l1", "scale": [2]},
    "mdsr": {**ADAM, "loss": "l1"},
    "srresnet": {**ADAM, "scale": [4]},
    "srgan": {**ADAM, "scale": [4], "loss": "0.006*VGG54+0.001*GAN", "schedule": "drop"},
}


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
    p.add_argument("--init-from", type=Path, metavar="FILE", help="start from this checkpoint: the parts that fit, or grown")
    p.add_argument("--resume", action="store_true", help="continue the run that wrote -o")
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    add_network_arguments(p.add_argument_group("network"))
    add_data_arguments(p.add_argument_group("data"))
    add_recipe_arguments(p)
    return p


def add_network_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what decides which network is trained."""
    g.add_argument("--arch", default="vdsr", choices=ARCHS, help="network (default: vdsr)")
    g.add_argument("--width", type=positive_int, metavar="N", help="filters of every inner convolution (default: the paper's)")
    g.add_argument("--preset", metavar="P", help="plain: m, l or xl (default: l); edsr, mdsr: baseline or large (baseline)")
    g.add_argument("--blocks", type=positive_int, metavar="N", help="residual blocks (default: the paper's)")
    g.add_argument("--res-scale", type=positive_float, metavar="F", help="residual scaling of edsr and mdsr (default: 1)")
    g.add_argument(
        "--expand",
        type=natural_int,
        default=0,
        metavar="N",
        help="train each kernel as a product of one N times as wide; it is multiplied out when saved (plain: 4, the others: 0)",
    )
    g.add_argument("--color", choices=("y", "rgb"), default="y", help="what the network enlarges, luma or RGB (default: y)")
    g.add_argument(
        "--scale",
        type=int,
        nargs="+",
        default=[2, 3, 4],
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
        default=0.0,
        metavar="E",
        help="draw patches by (bicubic error) ** E; 0: uniform (default: %(default)s)",
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
    p.set_defaults(**DEFAULTS.get(named.arch, {}))
    arguments = p.parse_args(argv)
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

    def command() -> int:
        with missing_package("train"):
            from sr_deploy.train.run import train_command
        return train_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

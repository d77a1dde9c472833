"""``sr-train``: folders of pictures to a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.console import Parser, missing_package, natural_int, positive_float, positive_int, run, thread_count, worker_count

PROG = "sr-train"
ARCHS = ("vdsr", "edsr", "srresnet")
ADAM = {
    **{"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.0, "clip_mode": "none"},
    **{"schedule": "halve", "batch_size": 16},
}
# What a paper says where it differs from VDSR's; the patch is of the enlarged picture.
DEFAULTS: dict[str, dict[str, object]] = {
    "edsr": {**ADAM, "loss": "l1", "scale": [2]},
    "srresnet": {**ADAM, "scale": [4]},
}


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-train``."""
    p = Parser(PROG, "Train a super-resolution network on folders of pictures.")
    p.usage = f"{PROG} DIR [DIR ...] -o FILE [options]\n       {PROG} DIR [DIR ...] --prepare FILE [options]"
    p.add_argument(
        "data", nargs="+", type=Path, metavar="DIR", help="folder of high-resolution pictures, or HDF5 file of patches (.h5)"
    )
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="checkpoint to write (.safetensors)")
    p.add_argument("--arch", default="vdsr", choices=ARCHS, help="network (default: vdsr)")
    p.add_argument("--width", type=positive_int, metavar="N", help="filters of every inner convolution (default: the paper's)")
    p.add_argument("--preset", metavar="P", help="baseline or large, of edsr (default: baseline)")
    p.add_argument("--blocks", type=positive_int, metavar="N", help="residual blocks of edsr and srresnet (default: the paper's)")
    p.add_argument("--res-scale", type=positive_float, metavar="F", help="residual scaling of edsr (default: 1)")
    p.add_argument("--color", choices=("y", "rgb"), default="y", help="what the network enlarges, luma or RGB (default: y)")
    p.add_argument(
        "--scale",
        type=int,
        nargs="+",
        default=[2, 3, 4],
        metavar="N",
        help="factors to serve, vdsr several, the others one; one named twice is drawn twice as often (vdsr: 2 3 4)",
    )
    data = p.add_argument_group("data")
    data.add_argument(
        "--patch",
        type=positive_int,
        metavar="N",
        help="patch side in pixels of the original (vdsr: 41, edsr: 48 x scale, srresnet: 96); where one network "
        "enlarges by several factors, in pixels of the low-resolution picture, the same for every factor (48)",
    )
    data.add_argument(
        "--shrink", type=float, nargs="+", metavar="F", help="sizes each picture is used at (vdsr: 1 0.7, the others: 1)"
    )
    data.add_argument(
        "--lr-dir",
        type=Path,
        metavar="DIR",
        help="low-resolution pictures, named as DIV2K's (0001x2.png or X2/0001x2.png) or as the originals (default: bicubic)",
    )
    data.add_argument(
        "--range",
        metavar="R",
        help="positions of the pictures to use: 1-800; 1-800/801-810 validates on the second, without --val",
    )
    data.add_argument(
        "--detail",
        type=float,
        default=0.0,
        metavar="E",
        help="draw patches by (bicubic error) ** E; 0: uniform (default: %(default)s)",
    )
    data.add_argument(
        "--prepare",
        type=Path,
        metavar="FILE",
        help="write the patches of all pictures, on a grid, to this HDF5 file (.h5), and train nothing",
    )
    data.add_argument("--stride", type=positive_int, metavar="N", help="pixels between patches of --prepare (default: the patch)")
    add_recipe_arguments(p)
    data.add_argument("--val", type=Path, metavar="DIR", help="folder whose PSNR is reported at every checkpoint")
    p.add_argument("--init-from", type=Path, metavar="FILE", help="start from this checkpoint: the parts that fit, or grown")
    p.add_argument("--resume", action="store_true", help="continue the run that wrote -o")
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    return p


def add_recipe_arguments(p: argparse.ArgumentParser) -> None:
    """Add what decides how a network is trained; the defaults are VDSR's."""
    p.add_argument("--steps", type=positive_int, metavar="N", help="optimizer steps")
    p.add_argument("--epochs", type=positive_float, metavar="N", help="epochs (default: 80, unless --steps or --minutes)")
    p.add_argument("--minutes", type=positive_float, metavar="N", help="wall time")
    p.add_argument("--batch-size", type=positive_int, default=64, metavar="N", help="patches a step (default: %(default)s)")
    p.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd", help="default: %(default)s")
    p.add_argument("--lr", type=positive_float, default=0.1, help="learning rate (default: %(default)s)")
    p.add_argument(
        "--lr-step", type=positive_float, default=20.0, metavar="N", help="epochs between divisions by 10 (default: %(default)s)"
    )
    p.add_argument(
        "--lr-half", type=positive_int, default=200_000, metavar="N", help="steps between halvings (default: %(default)s)"
    )
    p.add_argument("--schedule", choices=("step", "halve", "cosine"), default="step", help="default: %(default)s")
    p.add_argument("--warmup", type=natural_int, default=0, metavar="N", help="steps of linear warm-up (default: %(default)s)")
    p.add_argument("--momentum", type=float, default=0.9, help="momentum; beta1 of Adam (default: %(default)s)")
    p.add_argument("--weight-decay", type=float, default=1e-4, help="default: %(default)s")
    p.add_argument("--clip-mode", choices=("value", "norm", "none"), default="value", help="default: %(default)s")
    p.add_argument("--clip", type=positive_float, metavar="T", help="value: to +-T/lr (3e-4); norm: to T (0.4)")
    p.add_argument(
        "--loss", default="mse", metavar="L", help="mse: as VDSR, summed over pixels; l1: as EDSR; or terms: 0.7*L1+0.3*MSE"
    )
    p.add_argument("--seed", type=natural_int, default=0, help="default: %(default)s")
    p.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: %(default)s")
    p.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    p.add_argument("--workers", type=worker_count, default=1, metavar="N", help="threads preparing batches (default: 1)")
    p.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep decoded pictures in this folder, not in memory; later runs read them there",
    )
    p.add_argument("--threads", type=thread_count, metavar="N", help="threads that compute (default: all cores)")
    p.add_argument(
        "--save-minutes", type=positive_float, default=5.0, metavar="N", help="minutes between checkpoints (default: %(default)s)"
    )
    p.add_argument("--log-dir", type=Path, metavar="DIR", help="TensorBoard log")


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
    if arguments.prepare is None and arguments.stride is not None:
        p.error(f"--stride {arguments.stride} belongs to --prepare FILE.h5")

    def command() -> int:
        with missing_package("train"):
            from sr_deploy.train.session import train_command
        return train_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

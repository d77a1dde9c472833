"""``sr-prune``: a checkpoint to a smaller checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sr_deploy.compress.teaching.options import FINETUNE_LR, add_recovery_arguments
from sr_deploy.console import missing_package, run
from sr_deploy.options import Parser, natural_int, positive_float, positive_int
from sr_deploy.train.arguments import add_recipe_arguments
from sr_deploy.train.weights.pretrained import checkpoint_path

PROG = "sr-prune"
METHODS = ("kl-weighted", "kl", "minmax", "percentile", "mse")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-prune``."""
    p = Parser(PROG, "Remove filters by their L1 norm, rebuild the smaller network, fine-tune it and teach it int8.")
    p.add_argument(
        "checkpoint",
        type=checkpoint_path,
        metavar="CHECKPOINT",
        help="network to prune (.safetensors; in a checkout a name in train/pretrained)",
    )
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="checkpoint to write (.safetensors)")
    group = p.add_mutually_exclusive_group()
    group.add_argument("--sparsity", type=float, metavar="S", help="part of the filters to remove (default: 0.5)")
    group.add_argument("--config", type=Path, metavar="FILE", help="JSON file with an NNI config_list, passed through unchanged")
    add_recovery_arguments(p, group)
    p.add_argument(
        "--pruner", choices=("auto", "nni", "native"), default="auto", help="who makes the masks (default: NNI if installed)"
    )
    p.add_argument(
        "--shape",
        type=int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="shape the MACs are counted at (default: 1 1 or 3 256 256)",
    )
    p.add_argument("--data", type=Path, nargs="+", default=[], metavar="DIR", help="pictures to fine-tune on")
    p.add_argument("--finetune-steps", type=natural_int, metavar="N", help="fine-tuning steps (default: 0)")
    p.add_argument("--val", type=Path, metavar="DIR", help="pictures whose PSNR is shown before and after")
    p.add_argument("--scale", type=int, nargs="+", metavar="N", help="factors to fine-tune on (default: the network's)")
    p.add_argument("--patch", type=positive_int, metavar="N", help="patch side in pixels (default: the network's)")
    p.add_argument("--shrink", type=float, nargs="+", metavar="F", help="sizes each picture is used at (default: the network's)")
    p.add_argument("--detail", type=float, metavar="E", help="draw patches by (bicubic error) ** E (default: the network's)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    add_qat_arguments(p.add_argument_group("quantization-aware training"))
    add_recipe_arguments(p)
    p.set_defaults(
        optimizer="adam",
        lr=FINETUNE_LR,
        schedule="cosine",
        warmup=20,
        weight_decay=0.0,
        clip_mode="norm",
        batch_size=16,
        loss=None,
    )
    return p


def add_qat_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what decides how a network learns to compute in int8."""
    g.add_argument("--qat", action="store_true", help="teach the network to compute in int8; sr-export takes what it learned")
    g.add_argument("--qat-steps", type=positive_int, metavar="N", help="default: 300")
    g.add_argument("--qat-lr", type=positive_float, metavar="LR", help="learning rate, falling to 0 (default: 1e-4)")
    g.add_argument(
        "--qat-teacher-weight",
        type=float,
        metavar="W",
        help="of the distance to the picture of the network before, against that to the original; 0 to 1 "
        "(default: 0.5; 1 where the loss has VGG or GAN terms)",
    )
    g.add_argument("--qat-method", choices=METHODS, help="of the first thresholds (default: as sr-export's --method)")
    g.add_argument("--keep", nargs="+", default=[], metavar="NAME", help="more convolutions that stay in float, by module path")


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-prune`` and return its exit code."""
    arguments = parser().parse_args(argv)

    def command() -> int:
        with missing_package("train"):
            from sr_deploy.compress.run import prune_command
        return prune_command(arguments)

    return run(PROG, command)


if __name__ == "__main__":
    sys.exit(main())

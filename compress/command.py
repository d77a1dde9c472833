"""``sr-prune``: a checkpoint to a smaller checkpoint."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from sr_deploy.compress.options import FEATURES, FINETUNING, PruneOptions
from sr_deploy.console import missing_package, run
from sr_deploy.errors import CheckError, InputError
from sr_deploy.files import check_reports, write_text
from sr_deploy.options import Parser, natural_int, options_from, positive_float, positive_int, set_defaults_
from sr_deploy.train.arguments import add_recipe_arguments
from sr_deploy.train.options import DAMAGES
from sr_deploy.train.weights.pretrained import checkpoint_path

PROG = "sr-prune"
METHODS = ("kl-weighted", "kl", "minmax", "percentile", "mse")


def parser() -> argparse.ArgumentParser:
    """Return the command line of ``sr-prune``."""
    p = Parser(PROG, "Prune filters, rebuild the smaller network, fine-tune it, and train it for int8 (QAT).")
    p.add_argument(
        "checkpoint",
        type=checkpoint_path,
        metavar="CHECKPOINT",
        help="network to prune (.safetensors; in a checkout a name in train/pretrained)",
    )
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="checkpoint to write (.safetensors)")
    group = p.add_mutually_exclusive_group()
    group.add_argument("--sparsity", type=float, metavar="S", help="part of the filters to remove (default: 0.5)")
    group.add_argument("--config", type=Path, metavar="FILE", help="JSON file with an NNI config_list, read by NNI")
    add_recovery_arguments(p, group)
    p.add_argument("--pruner", choices=("auto", "nni", "native"), help="what makes the masks (default: NNI if installed)")
    p.add_argument(
        "--shape",
        type=int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="shape the MACs are counted at (default: 1 1 or 3 256 256)",
    )
    p.add_argument("--data", type=Path, nargs="+", metavar="DIR", help="pictures to fine-tune on")
    p.add_argument("--finetune-steps", type=natural_int, metavar="N", help="fine-tuning steps (default: 0)")
    p.add_argument(
        "--val",
        type=Path,
        metavar="DIR",
        help="pictures that every stage is measured on (default: parts of photographs that come with the project)",
    )
    p.add_argument("--max-drop", type=float, metavar="DB", help="exit with 1 if PSNR fell by more at any scale (default: any)")
    p.add_argument("--scale", type=int, nargs="+", metavar="N", help="factors to fine-tune on (default: the network's)")
    p.add_argument("--patch", type=positive_int, metavar="N", help="patch side in pixels (default: the network's)")
    p.add_argument("--shrink", type=float, nargs="+", metavar="F", help="sizes each picture is used at (default: the network's)")
    p.add_argument("--detail", type=float, metavar="E", help="draw patches by (bicubic error) ** E (default: the network's)")
    p.add_argument(
        "--degrade",
        nargs="*",
        choices=DAMAGES,
        metavar="KIND",
        help="damage half of the low-resolution patches: blur, noise, jpeg, several; no KIND: none (default: the network's)",
    )
    p.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    add_qat_arguments(p.add_argument_group("quantization-aware training"))
    add_recipe_arguments(p)
    set_defaults_(p, PruneOptions)
    p.set_defaults(**{**vars(FINETUNING), "scale": None, "loss": None})
    return p


def add_recovery_arguments(p: argparse.ArgumentParser, amount: argparse._MutuallyExclusiveGroup) -> None:
    """Add them; ``amount`` holds the options that say how much is removed, of which one is given."""
    amount.add_argument(
        "--target-macs",
        type=float,
        metavar="SHARE",
        help="share of the multiplications that is left; what each layer gives is measured on pictures of --data or --val",
    )
    p.add_argument(
        "--round-to",
        type=int,
        choices=(8, 16, 32, 64),
        metavar="N",
        help="keep multiples of N channels (8, 16, 32 or 64), rounded up",
    )
    p.add_argument(
        "--criterion",
        choices=("l1", "taylor", "activation"),
        help="importance of a filter: its L1 norm, the error without it, or what the next layers read of it; the last two on "
        "--data or --val (default: %(default)s)",
    )
    p.add_argument(
        "--reconstruct",
        type=natural_int,
        metavar="N",
        help="solve the layers that are left to reproduce the dense network on N patches of --data, or of the photographs that "
        "come with the project, before any training; 0: not (default: 256)",
    )
    p.add_argument("--rounds", type=positive_int, metavar="N", help="prune and fine-tune in N parts (default: 1)")
    g = p.add_argument_group("teacher")
    g.add_argument(
        "--distill",
        choices=("none", "output", *FEATURES),
        help="learn from the dense network too: its output, what its layers pass on, or both (default: %(default)s)",
    )
    g.add_argument("--distill-weight", type=positive_float, metavar="W", help="weight of the teacher, up to 1 (default: 0.5)")
    g.add_argument("--distill-layers", nargs="+", metavar="NAME", help="convolutions whose input is compared (default: up to 4)")
    g.add_argument(
        "--teacher", type=checkpoint_path, metavar="FILE", help="network whose output is learned (default: the dense network)"
    )


def add_qat_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what decides how a network learns to compute in int8."""
    g.add_argument("--qat", action="store_true", help="train through the rounding of int8; sr-export uses what was learned")
    g.add_argument("--qat-steps", type=positive_int, metavar="N", help="steps of QAT (default: 300)")
    g.add_argument("--qat-lr", type=positive_float, metavar="LR", help="learning rate, falling to 0 (default: 1e-4)")
    g.add_argument(
        "--qat-teacher-weight",
        type=float,
        metavar="W",
        help="weight of the distance to the picture of the network before, against that to the original; 0 to 1 "
        "(default: 0.5; 1 where the loss has VGG or GAN terms)",
    )
    g.add_argument("--qat-method", choices=METHODS, help="method of the first thresholds (default: as sr-export's --method)")
    g.add_argument("--keep", nargs="+", metavar="NAME", help="more convolutions that stay in float, by module path")


def main(argv: list[str] | None = None) -> int:
    """Run ``sr-prune`` and return its exit code."""
    arguments = parser().parse_args(argv)
    return run(PROG, partial(prune_command, arguments))


def prune_command(arguments: argparse.Namespace) -> int:
    """Prune as the command line asks and return the exit code."""
    for name, given in (("steps", arguments.steps), ("epochs", arguments.epochs)):
        if given is not None:
            raise InputError(f"--{name} {given:g} belongs to sr-train; give --finetune-steps")
    options = options_from(PruneOptions, arguments)
    check_reports({"--json": arguments.json}, [arguments.checkpoint, options.output, options.config])
    with missing_package("train"):
        from sr_deploy.compress.report import json_of, tables_of
        from sr_deploy.compress.run import prune
        from sr_deploy.train.reporting import reporter
    result = prune(arguments.checkpoint, options, report=reporter())
    print("\n\n".join(tables_of(result)))
    if arguments.json is not None:
        write_text(arguments.json, json_of(result))
    print(f"{result.checkpoint}: written")
    failure = result.failure(options.max_drop)
    if failure is not None:
        raise CheckError(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())

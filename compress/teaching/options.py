"""The options of ``sr-prune`` that decide how much goes where, and how quality is won back; light, for ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.options import positive_float, positive_int

FEATURES = ("features", "both")
FINETUNE_LR = 1e-3


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
        choices=("l1", "taylor"),
        default="l1",
        help="what tells filters that matter: their L1 norm, or the error on pictures of --data or --val (default: %(default)s)",
    )
    p.add_argument("--rounds", type=positive_int, default=1, metavar="N", help="prune and fine-tune in N parts (default: 1)")
    g = p.add_argument_group("teacher")
    g.add_argument(
        "--distill",
        choices=("none", "output", *FEATURES),
        default="none",
        help="learn from the dense network too: its output, what its layers pass on, or both (default: %(default)s)",
    )
    g.add_argument("--distill-weight", type=positive_float, metavar="W", help="weight of the teacher, up to 1 (default: 0.5)")
    g.add_argument("--distill-layers", nargs="+", metavar="NAME", help="convolutions whose input is compared (default: up to 4)")
    g.add_argument(
        "--teacher", type=Path, metavar="FILE", help="another network whose output is learnt from (default: the dense one)"
    )


def check_recovery(arguments: argparse.Namespace) -> None:
    """Check these options against each other and the rest.

    Raises:
        InputError: they do not fit.
    """
    if arguments.config is not None:
        for option, value in (("--rounds", arguments.rounds), ("--round-to", arguments.round_to)):
            if value not in (None, 1):
                raise InputError(
                    f"{option} {value}: --config {arguments.config} says itself what is removed; leave one of them out"
                )
    if arguments.target_macs is not None and not (arguments.data or arguments.val):
        raise InputError(f"--target-macs {arguments.target_macs} measures layers on pictures; name a folder with --data or --val")
    if arguments.criterion == "taylor" and not (arguments.data or arguments.val):
        raise InputError("--criterion taylor measures filters on pictures; name a folder with --data or --val")
    if arguments.criterion == "taylor" and arguments.pruner == "nni":
        raise InputError("--pruner nni: makes the masks of --criterion l1; leave one of them out")
    steps = arguments.finetune_steps or 0
    if arguments.rounds > 1 and steps < arguments.rounds:
        raise InputError(
            f"--rounds {arguments.rounds}: each ends with fine-tuning, there are {steps} steps; give more --finetune-steps"
        )
    _check_teacher(arguments)


def _check_teacher(arguments: argparse.Namespace) -> None:
    what, weight = arguments.distill, arguments.distill_weight
    given: Mapping[str, object] = {
        "--teacher": arguments.teacher,
        "--distill-weight": weight,
        "--distill-layers": " ".join(arguments.distill_layers or ()) or None,
    }
    for option, value in given.items():
        if what == "none" and value is not None:
            raise InputError(f"{option} {value}: nothing is learnt from a teacher; add --distill output, features or both")
    if what != "none" and not arguments.finetune_steps:
        raise InputError(f"--distill {what}: a part of fine-tuning; give --finetune-steps and --data")
    if weight is not None and weight > 1.0:
        raise InputError(f"--distill-weight {weight:g} is above 1, where the originals count nothing; 0.5 is usual")
    if what == "output" and arguments.distill_layers:
        raise InputError(
            f"--distill-layers {arguments.distill_layers[0]}: --distill output compares none; choose features or both"
        )
    if what in FEATURES and arguments.teacher is not None:
        raise InputError(
            f"--teacher {arguments.teacher}: its channels are not those of the pruned network; "
            "leave it out, or choose --distill output"
        )
    if what in FEATURES and arguments.compile:
        raise InputError(f"--compile: not with --distill {what}, which looks into the network; leave it out, or choose output")

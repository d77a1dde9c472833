"""Arguments that commands which train have in common: how long, by which loss, where."""

from __future__ import annotations

import argparse
from pathlib import Path

from sr_deploy.options import natural_int, positive_float, positive_int, thread_count, worker_count


def add_recipe_arguments(p: argparse.ArgumentParser) -> None:
    """Add what decides how a network is trained and where; the defaults are those of the options' dataclass."""
    add_length_arguments(p.add_argument_group("length and learning rate"))
    add_loss_arguments(p.add_argument_group("loss"))
    add_machine_arguments(p.add_argument_group("machine"))


def add_length_arguments(g: argparse._ArgumentGroup) -> None:
    """Add how long is trained, and with what optimizer."""
    g.add_argument("--steps", type=positive_int, metavar="N", help="optimizer steps")
    g.add_argument("--epochs", type=positive_float, metavar="N", help="epochs (default: 80, unless --steps or --minutes)")
    g.add_argument("--minutes", type=positive_float, metavar="N", help="wall time")
    g.add_argument("--batch-size", type=positive_int, metavar="N", help="patches at once in each process (default: %(default)s)")
    g.add_argument("--accumulate", type=positive_int, metavar="N", help="batches a step, their gradients averaged (default: 1)")
    g.add_argument("--optimizer", choices=("sgd", "adam"), help="optimizer (default: %(default)s)")
    g.add_argument("--lr", type=positive_float, metavar="LR", help="learning rate (default: %(default)s)")
    g.add_argument(
        "--schedule",
        choices=("step", "halve", "drop", "cosine"),
        help="learning rate: a tenth every --lr-step epochs, half every --lr-half steps, a tenth in the second half, "
        "or a cosine to 0 (default: %(default)s)",
    )
    g.add_argument("--lr-step", type=positive_float, metavar="N", help="epochs of --schedule step (default: %(default)s)")
    g.add_argument("--lr-half", type=positive_int, metavar="N", help="steps of --schedule halve (default: %(default)s)")
    g.add_argument("--warmup", type=natural_int, metavar="N", help="steps of linear warm-up (default: %(default)s)")
    g.add_argument("--momentum", "--beta1", type=float, metavar="B", help="beta1 of Adam (default: %(default)s)")
    g.add_argument("--weight-decay", type=float, metavar="W", help="weight decay (default: %(default)s)")
    g.add_argument("--clip-mode", choices=("value", "norm", "none"), help="how gradients are clipped (default: %(default)s)")
    g.add_argument("--clip", type=positive_float, metavar="T", help="clip by value: to +-T/lr (3e-4); by norm: to T (0.4)")
    g.add_argument("--ema", type=float, metavar="D", help="keep a moving average of the weights with this decay, as 0.999")
    g.add_argument("--seed", type=natural_int, metavar="N", help="random seed (default: %(default)s)")


def add_loss_arguments(g: argparse._ArgumentGroup) -> None:
    """Add what is minimised."""
    g.add_argument(
        "--loss",
        metavar="L",
        help="mse: as VDSR, summed; l1: as EDSR; or terms of L1, MSE, VGG22, VGG54, GAN: 1*MSE+0.001*GAN",
    )
    g.add_argument("--gan-loss", choices=("bce", "lsgan"), help="loss of a GAN term in --loss (default: bce)")
    g.add_argument("--content", choices=("vgg", "random-vgg", "pixel"), help="what VGG terms in --loss are (default: vgg)")
    g.add_argument("--vgg", type=Path, metavar="FILE", help="torchvision's vgg19-dcbb9e9d.pth (default: downloaded once)")
    g.add_argument("--vgg-distance", choices=("mse", "l1"), help="distance between VGG's feature maps (default: mse)")


def add_machine_arguments(g: argparse._ArgumentGroup) -> None:
    """Add where and how it is computed, and what is kept."""
    g.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train (default: %(default)s)")
    g.add_argument(
        "--devices",
        type=thread_count,
        metavar="N",
        help="GPUs, or processes on the CPU; each takes --batch-size patches (default: 1)",
    )
    g.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="precision of training; fp16 on CUDA only (default: %(default)s)"
    )
    g.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    g.add_argument("--threads", type=thread_count, metavar="N", help="threads that compute in each process (default: all cores)")
    g.add_argument("--workers", type=worker_count, metavar="N", help="threads preparing batches in each process (default: 1)")
    g.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep decoded pictures in this folder, not in memory; later runs read them there",
    )
    g.add_argument("--save-minutes", type=positive_float, metavar="N", help="minutes between checkpoints (default: %(default)s)")
    g.add_argument("--log-dir", type=Path, metavar="DIR", help="TensorBoard log")

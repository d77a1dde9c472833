"""EDSR of EDSR-PyTorch (sanghyun-son, before thstkdgus35) and of BasicSR, whose files hold the same network by other names.

Both feed it R * (x - mean) and return f(...) / R + mean, x in [0, 1], R = 255 as a rule. Convolutions with zero padding, ReLU,
sums and shuffles commute with a factor R but for their biases, so f(R * y) / R is the same network with every bias divided by R:
exact up to the picture's border. R and 1 / R in the first and last convolution would be as exact, but would change what pruning
compares and fine-tuning steps over. A mean cannot be folded, because a border of zeros is no border of means: our EDSR subtracts
and adds it.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from sr_deploy.train.networks.edsr import DIV2K_MEAN, edsr_widths
from sr_deploy.train.weights.public_state import Foreign, Found, State, both, matches

PART = r"\.(?:weight|bias)"
BLOCK = r"body\.(\d+)\.body\.[02]" + PART
PYTORCH_BLOCK = re.compile(BLOCK)
PYTORCH = re.compile(
    rf"(?:sub|add)_mean{PART}|head\.0{PART}|{BLOCK}|body\.\d+{PART}|tail\.0\.[024]{PART}|tail\.1{PART}",
)
BASICSR_OWN = re.compile(rf"conv_after_body{PART}|upsample\.[024]{PART}")
BASICSR = re.compile(rf"conv_first{PART}|body\.\d+\.conv[12]{PART}|{BASICSR_OWN.pattern}|conv_last{PART}")
ASSUMED_RANGE = 255.0
LARGE = 256  # features of the large network, which scales its residuals by 0.1 (section 3.1 of the paper)


def edsr_pytorch(state: State, path: Path) -> Found | None:
    """Return the network of an EDSR-PyTorch state, or ``None`` where it is another."""
    if not matches(state, PYTORCH, PYTORCH_BLOCK):
        return None
    foreign = Foreign("EDSR-PyTorch", state, path)
    blocks = max(foreign.highest(BLOCK) + 1, foreign.highest(rf"body\.(\d+){PART}"))
    names = {
        **{"head": "head.0", "body_end": f"body.{blocks}", "tail": "tail.1"},
        **{f"body.{i}.conv{n + 1}": f"body.{i}.body.{2 * n}" for i in range(blocks) for n in (0, 1)},
    }
    up = [f"tail.0.{2 * n}" for n in range(foreign.highest(rf"tail\.0\.(\d){PART}") // 2 + 1)]
    value_range, fact = shift_range(foreign)
    return assemble(foreign, names, up, value_range, {"range": fact})


def basicsr_edsr(state: State, path: Path) -> Found | None:
    """Return the network of a BasicSR EDSR state, or ``None`` where it is another."""
    if not matches(state, BASICSR, BASICSR_OWN):
        return None
    foreign = Foreign("BasicSR EDSR", state, path)
    if foreign.colors("conv_first.weight") != 3:
        raise foreign.problem(f"reads {foreign.colors('conv_first.weight')} channels; its mean shift is of RGB, 3 are needed")
    blocks = foreign.highest(rf"body\.(\d+)\.conv[12]{PART}") + 1
    names = {
        **{"head": "conv_first", "body_end": "conv_after_body", "tail": "conv_last"},
        **{f"body.{i}.conv{n}": f"body.{i}.conv{n}" for i in range(blocks) for n in (1, 2)},
    }
    up = [f"upsample.{2 * n}" for n in range(foreign.highest(rf"upsample\.(\d){PART}") // 2 + 1)]
    fact = f"{ASSUMED_RANGE:g} (its default, not in the file)"
    return assemble(foreign, names, up, ASSUMED_RANGE, {"range": fact, "mean": "DIV2K (its default, not in the file)"})


def assemble(foreign: Foreign, names: dict[str, str], up: list[str], value_range: float, facts: dict[str, str]) -> Found:
    """Return our EDSR with the weights of theirs.

    Args:
        foreign: the state.
        names: convolutions, ours to theirs, without those of the upsampler.
        up: their convolutions in front of each PixelShuffle.
        value_range: R of the module's docstring.
        facts: what the card says beside the residual scaling.

    Raises:
        InputError: a tensor is missing or does not fit.
    """
    inner = [theirs for ours, theirs in names.items() if ours.startswith("body")]
    features = foreign.features("|".join(re.escape(f"{name}.weight") for name in inner))
    scale, colors = foreign.scale([f"{name}.weight" for name in up], features), foreign.colors(f"{names['head']}.weight")
    config = {"scale": scale, "colors": colors, "res_scale": 0.1 if features == LARGE else 1.0}
    widths = edsr_widths(blocks=(len(inner) - 1) // 2, features=features, scale=scale, colors=colors)
    network = foreign.build("edsr", widths, config)
    names = names | {f"up.{n}": name for n, name in enumerate(up)}
    values = foreign.values(network, {k: v for ours, theirs in names.items() for k, v in both(ours, theirs).items()})
    network.load_state_dict({name: _divide(value, name, value_range) for name, value in values.items()})
    return Found(network, {**facts, "res_scale": f"{config['res_scale']:g} (by its {features} features, not in the file)"})


def shift_range(foreign: Foreign) -> tuple[float, str]:
    """Return the range that the mean shift of EDSR-PyTorch was made for, and where that is from.

    The shift is a 1x1 convolution: the identity, and a bias of minus the range times DIV2K's mean.

    Raises:
        InputError: it is another shift.
    """
    if not any(name.startswith(("sub_mean.", "add_mean.")) for name in foreign.state):
        return ASSUMED_RANGE, f"{ASSUMED_RANGE:g} (assumed, and DIV2K's mean for RGB: the file holds no mean shift)"
    mean = torch.tensor(DIV2K_MEAN)
    bias = foreign.sized("sub_mean.bias", (3,))
    value_range = float((-bias / mean).mean())
    rounded = float(round(value_range)) or value_range
    value_range = rounded if abs(rounded - value_range) < 1e-3 * abs(value_range) else value_range
    identity, tolerance = torch.eye(3)[:, :, None, None], 1e-3 * abs(value_range)
    fits = value_range > 0.0 and bool(((bias + value_range * mean).abs() <= tolerance).all())
    fits = fits and bool(((foreign.sized("add_mean.bias", (3,)) + bias).abs() <= tolerance).all())
    for name in ("sub_mean.weight", "add_mean.weight"):
        fits = fits and bool(((foreign.sized(name, (3, 3, 1, 1)) - identity).abs() <= 1e-3).all())
    if not fits:
        raise foreign.problem(
            f"its mean shift ({', '.join(f'{value:g}' for value in bias.tolist())}) is no range times DIV2K's mean "
            f"({', '.join(map(str, DIV2K_MEAN))}), which is what is served"
        )
    return value_range, f"{value_range:g} (by its mean shift)"


def _divide(value: Tensor, name: str, by: float) -> Tensor:
    return value / by if name.endswith(".bias") else value

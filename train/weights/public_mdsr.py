"""MDSR of EDSR-PyTorch (sanghyun-son): ``head.0``, ``pre_process.S.K.body``, ``body``, ``upsample.S``, ``tail.0``, a mean shift.

``S`` counts the scales in the order of its ``--scale``; which scale it is, the upsampler's shapes tell. It is fed R * x, x in
[0, 1], R = 255 as a rule, takes R * mean off first and adds it last. Convolutions, ReLU, sums and shuffles commute with a factor,
but for the biases: with every bias divided by R it is our network. (R and 1 / R folded into the first and last convolution
would compute the same, but make the head's filters 255 times as large as those that share its stream, and pruning compares
them.) The mean cannot be folded, because a border of zeros is no border of means: it stays an explicit shift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from sr_deploy.errors import InputError
from sr_deploy.train.networks.edsr import UPSAMPLERS
from sr_deploy.train.networks.mdsr import BEFORE
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build
from sr_deploy.train.weights.public_edsr import shift_range
from sr_deploy.train.weights.public_state import Foreign, Found, State

BLOCK = re.compile(r"body\.(\d+)\.body\.[02]\.(?:weight|bias)")
UPSAMPLER = re.compile(r"upsample\.(\d+)\.(\d+)\.weight")


def edsr_pytorch_mdsr(state: State, path: Path) -> Found | None:
    """Return the MDSR of an ``EDSR-PyTorch`` state, RGB in [0, 1], or ``None`` where it is another network's.

    Raises:
        InputError: it is one, but a tensor is missing or too many, or its shapes do not fit.
    """
    if "head.0.weight" not in state or not any(name.startswith("pre_process.") for name in state):
        return None
    levels, where = shift_range(Foreign("EDSR-PyTorch's MDSR", state, path))
    try:
        scales = scales_of(state)
        network = build("mdsr", *shapes_of(state, scales))
        names = theirs(network, scales)
        missing, more = sorted(set(names.values()) - set(state)), sorted(set(state) - set(names.values()))
        more = [name for name in more if not name.startswith(("sub_mean.", "add_mean."))]
        if missing or more:
            raise InputError(f"{missing[0]} is missing" if missing else f"{more[0]} is of no part of it")
        values = {ours: state[name].float() for ours, name in names.items()}
        broken = [names[ours] for ours, value in values.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise InputError(f"{broken[0]} holds NaN or infinity")
        network.load_state_dict({name: v / levels if name.endswith(".bias") else v for name, v in values.items()})
    except (InputError, RuntimeError, KeyError, IndexError, TypeError) as err:
        reason = " ".join(str(err).split())[:200]
        raise InputError(f"{path}: looks like EDSR-PyTorch's MDSR, but {reason}; it is damaged, or of another version") from err
    return Found(network, {"range": where, "res_scale": "1 (the file does not hold it)"})


def scales_of(state: State) -> dict[int, int]:
    """Return the scale of each of its upsamplers by its number.

    Raises:
        InputError: one makes another scale than 2, 3 or 4, or two make the same.
    """
    features, factors = len(state["head.0.weight"]), dict[int, list[int]]()
    for found in sorted(filter(None, map(UPSAMPLER.fullmatch, state)), key=lambda match: (int(match[1]), int(match[2]))):
        factors.setdefault(int(found[1]), []).append(3 if len(state[found[0]]) == 9 * features else 2)
    known = {steps: scale for scale, steps in UPSAMPLERS.items()}
    scales = {number: known.get(tuple(steps), 0) for number, steps in factors.items()}
    if not scales or 0 in scales.values() or len(set(scales.values())) != len(scales):
        text = ", ".join("x".join(map(str, steps)) for steps in factors.values())
        raise InputError(
            f"its upsamplers enlarge by {text or 'nothing'}; served are {', '.join(map(str, UPSAMPLERS))}, each once"
        )
    return scales


def shapes_of(state: State, scales: Mapping[int, int]) -> tuple[tuple[int, ...] | None, dict[str, float]]:
    """Return what ``build`` needs: no widths, for a uniform network, and its config."""
    blocks = len({found[1] for found in map(BLOCK.fullmatch, state) if found})
    served = {f"x{scale}": int(scale in scales.values()) for scale in UPSAMPLERS}
    head = state["head.0.weight"]
    return None, {"blocks": blocks, "features": head.shape[0], "colors": head.shape[1], **served}


def theirs(network: Network, scales: Mapping[int, int]) -> dict[str, str]:
    """Return their name of every tensor, by ours."""
    blocks = sum(name.startswith("body.") and name.endswith("conv1.weight") for name in network.state_dict())
    names = {"head": "head.0", "body_end": f"body.{blocks}", "tail": "tail.0"}
    pairs = {f"body.{n}": f"body.{n}.body" for n in range(blocks)}
    for number, scale in scales.items():
        pairs |= {f"pre.x{scale}.{n}": f"pre_process.{number}.{n}.body" for n in range(BEFORE)}
        names |= {f"up.x{scale}.{n}": f"upsample.{number}.{2 * n}" for n in range(len(UPSAMPLERS[scale]))}
    for ours, name in pairs.items():
        names |= {f"{ours}.conv1": f"{name}.0", f"{ours}.conv2": f"{name}.2"}
    return {f"{ours}.{part}": f"{name}.{part}" for ours, name in names.items() for part in ("weight", "bias")}

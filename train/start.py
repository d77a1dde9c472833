"""What a run starts with: the network that the command line names, new or begun with the weights of a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.notes import NOTES
from sr_deploy.train.networks.edsr import UPSAMPLERS
from sr_deploy.train.networks.plain import Plain, rescaled
from sr_deploy.train.networks.registry import build, card_of, config_of
from sr_deploy.train.networks.srresnet import UPSAMPLERS as SRRESNET_UPSAMPLERS
from sr_deploy.train.networks.srresnet import SRResNet
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.srresnet_from_edsr import is_edsr, srresnet_state
from sr_deploy.train.weights.warm_start import warm_start_

STEPS = {**UPSAMPLERS, **SRRESNET_UPSAMPLERS}  # the factor of each PixelShuffle, by scale
PRESETS: dict[str, dict[str, dict[str, float]]] = {
    "edsr": {"baseline": {"blocks": 16, "features": 64}, "large": {"blocks": 32, "features": 256, "res_scale": 0.1}},
    "plain": {"m": {"blocks": 6, "features": 32}, "l": {"blocks": 7, "features": 48}, "xl": {"blocks": 10, "features": 64}},
    "mdsr": {"baseline": {"blocks": 16, "features": 64}, "large": {"blocks": 80, "features": 64}},
}

NO_RES_SCALE = ("plain", "srresnet", "srgan")


def fresh_network(arguments: argparse.Namespace) -> nn.Module:
    """Return the network that the command line names, untrained; SRGAN's is its generator."""
    return build("srresnet" if arguments.arch == "srgan" else arguments.arch, config=network_config(arguments))


def served_card(network: nn.Module, scales: Sequence[int]) -> ModelCard:
    """Return the card of a network that is trained for ``scales``."""
    return card_of(network, scales=tuple(sorted(set(scales))), default_scale=min(scales))


def begin_with_(network: nn.Module, source: Path) -> bool:
    """Start ``network`` from a checkpoint, name what does not fit, and return whether its norms must be settled on data first.

    Raises:
        InputError: nothing fits, or what fits would compute something else: other colours, another residual scaling.
    """
    state, theirs, ours = checkpoint.tensors(source), checkpoint.read_card(source), config_of(network)
    if theirs.color != ("rgb" if ours.get("colors") == 3 else "y"):
        raise InputError(f"--init-from {source}: takes {theirs.color}, this network does not; give --color {theirs.color}")
    scaling = float(theirs.config.get("res_scale", 1.0))
    from_edsr = isinstance(network, SRResNet) and is_edsr(state)
    if isinstance(network, SRResNet) and from_edsr:
        state = srresnet_state(state, network, res_scale=scaling)
    elif "res_scale" in ours and scaling != ours["res_scale"]:
        raise InputError(
            f"--init-from {source}: scales its residuals by {scaling:g}, this network by {ours['res_scale']:g}; "
            f"give --res-scale {scaling:g}"
        )
    if isinstance(network, Plain):
        if theirs.arch != "plain":
            raise InputError(
                f"--init-from {source}: is {theirs.arch}, a plain network begins with a plain one; leave it out, or name one"
            )
        for name in ("residual", "clip", "prelu"):
            if theirs.config.get(name, ours[name]) != ours[name]:
                raise InputError(
                    f"--init-from {source}: has {name} {theirs.config[name]:g}, this network {ours[name]:g}; "
                    "begin with a checkpoint of sr-train"
                )
        scales = {"colors": network.config.colors, "old": int(theirs.config["scale"]), "new": network.config.scale}
        state |= {name: rescaled(state[name], **scales) for name in ("tail.weight", "tail.bias")}
    for number in scrambled(theirs.config.get("scale"), ours.get("scale")):
        for name in [name for name in state if name.startswith(f"up.{number}.")]:
            NOTES.info(f"{name}: of {source}, makes other sub-pixels, not used")
            del state[name]
    for note in warm_start_(network, state, source=str(source)):
        NOTES.info(note)
    return from_edsr


def scrambled(theirs: float | None, ours: float | None) -> list[int]:
    """Return the numbers of the sub-pixel convolutions that two scales do not share: r * r filters make another pattern."""
    if theirs is None or ours is None:
        return []
    pairs = zip(STEPS.get(int(theirs), ()), STEPS.get(int(ours), ()), strict=False)
    return [number for number, (a, b) in enumerate(pairs) if a != b]


def network_config(arguments: argparse.Namespace) -> dict[str, float]:
    """Return what the command line says about the network.

    Raises:
        InputError: several scales for a network that serves one, or an option that it does not have.
    """
    chosen = {"features": arguments.width, "blocks": arguments.blocks, "res_scale": arguments.res_scale}
    if arguments.preset is not None:
        if arguments.arch not in PRESETS or arguments.preset not in PRESETS[arguments.arch]:
            known = "; ".join(f"{arch}: {', '.join(names)}" for arch, names in PRESETS.items())
            raise InputError(f"--preset {arguments.preset}: not known for {arguments.arch} ({known})")
        preset = PRESETS[arguments.arch][arguments.preset]
        chosen = {name: preset.get(name) if value is None else value for name, value in chosen.items()}
    if arguments.arch == "vdsr":
        for option, value in (("--blocks", arguments.blocks), ("--res-scale", arguments.res_scale)):
            if value is not None:
                raise InputError(f"{option} {value:g}: VDSR has no residual blocks; leave it out, or choose --arch edsr")
    elif arguments.arch in NO_RES_SCALE and arguments.res_scale is not None:
        raise InputError(f"--res-scale {arguments.res_scale:g}: {arguments.arch} does not scale its residuals; leave it out")
    if arguments.arch == "mdsr":
        chosen |= mdsr_scales(arguments.scale)
    elif arguments.arch != "vdsr":
        if len(set(arguments.scale)) != 1:
            raise InputError(
                f"--scale {' '.join(map(str, arguments.scale))}: {arguments.arch} serves one scale; train one for each, "
                "or choose --arch mdsr"
            )
        chosen["scale"] = arguments.scale[0]
    chosen["colors"] = 3 if arguments.color == "rgb" else 1
    return {name: value for name, value in chosen.items() if value is not None}


def mdsr_scales(scales: Sequence[int]) -> dict[str, int]:
    """Return what MDSR's config says of the scales it serves.

    Raises:
        InputError: it has no upsampler for one of them.
    """
    for scale in scales:
        if scale not in UPSAMPLERS:
            raise InputError(f"--scale {scale}: mdsr serves {', '.join(map(str, UPSAMPLERS))}; choose among them")
    return {f"x{scale}": int(scale in scales) for scale in UPSAMPLERS}

"""What a run starts with: the network that the options name, new or begun with the weights of a checkpoint."""

from __future__ import annotations

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
from sr_deploy.train.options import PRESETS, NetworkOptions
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.srresnet_from_edsr import is_edsr, srresnet_state
from sr_deploy.train.weights.warm_start import warm_start_

STEPS = {**UPSAMPLERS, **SRRESNET_UPSAMPLERS}  # the factor of each PixelShuffle, by scale


def fresh_network(options: NetworkOptions) -> nn.Module:
    """Return the network that the options name, untrained; SRGAN's is its generator."""
    return build("srresnet" if options.arch == "srgan" else options.arch, config=network_config(options))


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


def network_config(options: NetworkOptions) -> dict[str, float]:
    """Return what the options say about the network.

    Raises:
        InputError: MDSR has no upsampler for a scale.
    """
    chosen = {"features": options.width, "blocks": options.blocks, "res_scale": options.res_scale}
    preset = {} if options.preset is None else PRESETS[options.arch][options.preset]
    config = {name: preset.get(name) if value is None else value for name, value in chosen.items()}
    if options.arch == "mdsr":
        config |= mdsr_scales(options.scales)
    elif options.arch != "vdsr":
        config["scale"] = options.scales[0]
    config["colors"] = 3 if options.color == "rgb" else 1
    return {name: value for name, value in config.items() if value is not None}


def mdsr_scales(scales: Sequence[int]) -> dict[str, int]:
    """Return what MDSR's config says of the scales it serves.

    Raises:
        InputError: it has no upsampler for one of them.
    """
    for scale in scales:
        if scale not in UPSAMPLERS:
            raise InputError(f"--scale {scale}: mdsr serves {', '.join(map(str, UPSAMPLERS))}; choose among them")
    return {f"x{scale}": int(scale in scales) for scale in UPSAMPLERS}

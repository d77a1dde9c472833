"""What a run starts with: the network that the options name, new or started from the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.notes import NOTES
from sr_deploy.train.networks.edsr import UPSAMPLERS
from sr_deploy.train.networks.network import Network, Start
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.options import PRESETS, NetworkOptions
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.warm_start import warm_start_


def fresh_network(options: NetworkOptions) -> Network:
    """Return the network that the options name, untrained; SRGAN's is its generator."""
    return build("srresnet" if options.arch == "srgan" else options.arch, config=network_config(options))


def served_card(network: Network, scales: Sequence[int]) -> ModelCard:
    """Return the card of a network that is trained for ``scales``."""
    return card_of(network, scales=tuple(sorted(set(scales))), default_scale=min(scales))


def begin_with_(network: Network, source: Path) -> bool:
    """Start ``network`` from a checkpoint, name what does not fit, and return whether its norms must be settled on data first.

    Raises:
        InputError: nothing fits, or what fits would compute something else: other colours, another residual scaling.
    """
    card = checkpoint.read_card(source)
    start = Start(str(source), card.arch, card.config, checkpoint.tensors(source))
    if card.color != ("rgb" if network.facts.get("colors") == 3 else "y"):
        raise InputError(f"--init-from {source}: takes {card.color}, this network does not; give --color {card.color}")
    for note in warm_start_(network, network.state_from(start), source=str(source)):
        NOTES.info(note)
    return network.invents_norms(start)


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

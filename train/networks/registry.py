"""The registry of networks: from a name or a model card to a module, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sr_deploy.card import ModelCard, Shape
from sr_deploy.errors import InputError
from sr_deploy.train.networks.edsr import EDSR, EDSRConfig, edsr_widths
from sr_deploy.train.networks.mdsr import MDSR, MDSRConfig, mdsr_widths
from sr_deploy.train.networks.msrresnet import MSRResNet, MSRResNetConfig, msrresnet_widths
from sr_deploy.train.networks.network import Config, Network
from sr_deploy.train.networks.plain import Plain, PlainConfig, plain_widths
from sr_deploy.train.networks.srresnet import SRResNet, SRResNetConfig, srresnet_widths
from sr_deploy.train.networks.vdsr import VDSR, VDSRConfig


@dataclass(frozen=True)
class Family:
    """One architecture: how to build it from channel widths and the rest, and its constants."""

    build: Callable[[tuple[int, ...], Config], Network]
    widths: Callable[[Config], tuple[int, ...]]  # of the paper, or uniform with ``blocks`` and ``features``


def vdsr_widths(config: Config) -> tuple[int, ...]:
    """Return VDSR's widths with ``features`` filters in each inner convolution."""
    standard = VDSRConfig().widths
    return (int(config.get("features", standard[0])),) * (len(standard) - 1) + (int(config.get("colors", 1)),)


def integers(config: Config, **defaults: int) -> dict[str, int]:
    """Return the entries of ``config`` that ``defaults`` names, as integers."""
    return {name: int(config.get(name, value)) for name, value in defaults.items()}


def edsr_from(widths: tuple[int, ...], config: Config) -> Network:
    """Return an EDSR."""
    return EDSR(EDSRConfig(widths, **integers(config, scale=2, colors=1), res_scale=float(config.get("res_scale", 1.0))))


def mdsr_from(widths: tuple[int, ...], config: Config) -> Network:
    """Return an MDSR."""
    return MDSR(MDSRConfig(widths, **integers(config, x2=1, x3=1, x4=1, colors=1), res_scale=float(config.get("res_scale", 1.0))))


def srresnet_from(widths: tuple[int, ...], config: Config) -> Network:
    """Return an SRResNet, the generator of SRGAN."""
    return SRResNet(SRResNetConfig(widths, **integers(config, scale=4, colors=1, norm=1, end_act=0, tanh=0)))


def msrresnet_from(widths: tuple[int, ...], config: Config) -> Network:
    """Return an MSRResNet, BasicSR's SRResNet."""
    return MSRResNet(MSRResNetConfig(widths, **integers(config, scale=4, colors=1)))


def plain_from(widths: tuple[int, ...], config: Config) -> Network:
    """Return a plain network in low resolution."""
    return Plain(PlainConfig(widths, **integers(config, scale=2, colors=1, prelu=0, residual=1, clip=0)))


FAMILIES: dict[str, Family] = {
    "plain": Family(plain_from, lambda config: plain_widths(**integers(config, blocks=7, features=48, scale=2, colors=1))),
    "vdsr": Family(lambda widths, config: VDSR(VDSRConfig(widths, **integers(config, colors=1))), vdsr_widths),
    "edsr": Family(edsr_from, lambda config: edsr_widths(**integers(config, blocks=16, features=64, scale=2, colors=1))),
    "mdsr": Family(mdsr_from, lambda config: mdsr_widths(**integers(config, blocks=16, features=64, colors=1, x2=1, x3=1, x4=1))),
    "srresnet": Family(
        srresnet_from, lambda config: srresnet_widths(**integers(config, blocks=16, features=64, scale=4, colors=1))
    ),
    "msrresnet": Family(
        msrresnet_from, lambda config: msrresnet_widths(**integers(config, blocks=16, features=64, scale=4, colors=1))
    ),
}


def build(arch: str, widths: tuple[int, ...] | None = None, config: Config | None = None) -> Network:
    """Return a freshly initialised network; ``widths`` and what ``config`` leaves out default to the paper's.

    Raises:
        InputError: the architecture is unknown, or the widths do not fit it.
    """
    if arch not in FAMILIES:
        raise InputError(f"architecture {arch!r} is unknown; known: {', '.join(FAMILIES)}")
    family, config = FAMILIES[arch], config or {}
    return family.build(family.widths(config) if widths is None else widths, config)


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions by module path, in the order they were registered."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def taken_at(network: Network, card: ModelCard, scale: int) -> tuple[Network, ModelCard]:
    """Return the network for one scale and the card that tells of it, under the digest of the file that holds both.

    Raises:
        InputError: the network has branches, and none for the scale.
    """
    one = network.at_scale(scale)
    if one is network:
        return network, card
    facts = {"widths": widths_of(one), "config": one.facts, "halo": one.halo(), "scales": (scale,), "default_scale": scale}
    return one, card.with_changes(**facts, digest=card.digest)


def macs(network: Network, shape: Shape) -> int:
    """Return the multiplications of one forward pass at ``shape`` (n, c, h, w), counted by torch, nothing computed.

    A network of several branches has no such number: ask for one of ``at_each_scale``.
    """
    clone = build_like(network).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        clone(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def weight_count(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(p.numel() for p in network.parameters())


def widths_of(network: nn.Module) -> tuple[int, ...]:
    """Return the output channels of each convolution, in order."""
    return tuple(conv.out_channels for conv in convolutions(network).values())


def build_like(network: Network) -> Network:
    """Return a fresh network of the same architecture and widths."""
    return build(arch_of(network), widths_of(network), network.facts)


def arch_of(network: Network) -> str:
    """Return the registry's name of a network."""
    return type(network).__name__.lower()


def card_of(network: Network, *, scales: tuple[int, ...], default_scale: int) -> ModelCard:
    """Return the card of a checkpoint that holds ``network``, with those of ``scales`` that it can serve."""
    served = network.served(scales)
    return ModelCard(
        arch=arch_of(network),
        widths=widths_of(network),
        config=network.facts,
        color="rgb" if network.facts.get("colors") == 3 else "y",
        upscale=network.upscale,
        scales=served,
        default_scale=default_scale if default_scale in served else served[0],
        halo=network.halo(),
    )

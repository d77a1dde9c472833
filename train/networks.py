"""The registry of networks: from a name or a model card to a module, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sr_deploy.card import ModelCard, Shape
from sr_deploy.errors import InputError
from sr_deploy.train.groups import ChannelGroup
from sr_deploy.train.vdsr import VDSR, VDSRConfig


class Network(Protocol):
    """What every network offers beside being an ``nn.Module``."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def channel_groups(self) -> tuple[ChannelGroup, ...]: ...


@dataclass(frozen=True)
class Family:
    """One architecture: how to build it from channel widths, and its constants."""

    build: Callable[[tuple[int, ...]], nn.Module]
    widths: tuple[int, ...]  # of the paper


FAMILIES: dict[str, Family] = {
    "vdsr": Family(lambda widths: VDSR(VDSRConfig(widths)), VDSRConfig().widths),
}


def build(arch: str, widths: tuple[int, ...] | None = None) -> nn.Module:
    """Return a freshly initialised network; ``widths`` default to the paper's.

    Raises:
        InputError: the architecture is unknown, or the widths do not fit it.
    """
    if arch not in FAMILIES:
        raise InputError(f"architecture {arch!r} is unknown; known: {', '.join(FAMILIES)}")
    return FAMILIES[arch].build(FAMILIES[arch].widths if widths is None else widths)


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions by module path, in the order they were registered."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def halo(network: nn.Module) -> int:
    """Return how many input pixels around an output pixel influence it, for a chain of convolutions."""
    return sum((conv.kernel_size[0] - 1) * conv.dilation[0] // 2 for conv in convolutions(network).values())


def macs(network: nn.Module, shape: Shape) -> int:
    """Return the multiplications of one forward pass at ``shape`` (n, c, h, w), counted by torch, nothing computed."""
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


def build_like(network: nn.Module) -> nn.Module:
    """Return a fresh network of the same architecture and widths."""
    return build(arch_of(network), widths_of(network))


def arch_of(network: nn.Module) -> str:
    """Return the registry's name of a network."""
    return type(network).__name__.lower()


def card_of(network: nn.Module, *, scales: tuple[int, ...], default_scale: int) -> ModelCard:
    """Return the card of a checkpoint that holds ``network``."""
    return ModelCard(
        arch=arch_of(network), widths=widths_of(network), scales=scales, default_scale=default_scale, halo=halo(network)
    )

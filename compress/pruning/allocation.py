"""How many channels each group keeps, what that costs in multiplications, and the ``config_list`` that asks for it.

A group's channels (:class:`~sr_deploy.train.networks.groups.ChannelGroup`) live and go together, so the number that is kept is
one number a group: inside a residual block, of the stream, of what an upsampler hands on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_deploy.card import Shape
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build_like, convolutions

Kept = Mapping[ChannelGroup, int]
"""How many channels of each group stay."""


def channels_of(network: Network) -> dict[ChannelGroup, int]:
    """Return how many channels each group has, as its readers count them."""
    convs = convolutions(network)
    groups = network.channel_groups()
    return {group: convs[group.producers[0]].out_channels // group.blocks[group.producers[0]] for group in groups}


def uniform(channels: Kept, sparsity: float) -> dict[ChannelGroup, int]:
    """Return what is left when ``int(n * sparsity)`` of the ``n`` channels of every group go; ``sparsity`` is in [0, 1)."""
    return {group: n - int(n * sparsity) for group, n in channels.items()}


def round_up(kept: Kept, channels: Kept, multiple: int) -> dict[ChannelGroup, int]:
    """Return the next multiple of ``multiple`` for every group, at most all of its channels: no layer keeps less than asked."""
    return {group: min(-(-n // multiple) * multiple, channels[group]) for group, n in kept.items()}


def part_of_the_way(channels: Kept, kept: Kept, *, step: int, steps: int) -> dict[ChannelGroup, int]:
    """Return what is left after ``step`` of ``steps`` rounds that remove about equally many channels and end at ``kept``."""
    return {group: n - (n - kept[group]) * step // steps for group, n in channels.items()}


def config_list_from(network: Network, kept: Kept) -> list[dict[str, object]]:
    """Return the ``config_list`` that keeps exactly so many channels of each group: one entry for each, in NNI's dialect.

    Convolutions that share a residual stream get one mask (``dependency_group_id``); those in front of PixelShuffle(r) lose whole
    groups of r * r channels (``granularity``), which are one channel behind it. Where several upsamplers end in one tail (MDSR),
    both hold: the mean over the scales of the norm of the r * r filters that make a channel decides about it.
    """
    convs, channels = convolutions(network), channels_of(network)
    entries: list[dict[str, object]] = []
    for number, (group, n) in enumerate(channels.items(), start=1):
        ratio = exact_ratio(n, n - kept[group])
        together: dict[str, object] = {"dependency_group_id": f"group{number}"} if len(group.producers) > 1 else {}
        if max(group.blocks.values()) == 1:
            entries.append({"sparse_ratio": ratio, "op_names": list(group.producers), **together})
            continue
        for name, block in group.blocks.items():
            settings = {"weight": {"granularity": [block, *convs[name].weight.shape[1:]]}}
            entries.append({"sparse_ratio": ratio, "op_names": [name], **together, "target_settings": settings})
    return entries


def exact_ratio(channels: int, removed: int) -> float:
    """Return the sparsity at which ``int(channels * sparsity)``, what the masks take, is ``removed``: their quotient, or more."""
    ratio = removed / channels
    while int(channels * ratio) < removed:
        ratio = math.nextafter(ratio, 1.0)
    return ratio


@dataclass(frozen=True)
class Cost:
    """Multiplications of a network as a function of what its groups keep: exact, without building a smaller one."""

    convs: tuple[Convolution, ...]

    def macs(self, kept: Kept) -> int:
        """Return the multiplications of one forward pass, over all scales that have a branch of their own."""
        return sum(conv.each * conv.inputs(kept) * conv.outputs(kept) for conv in self.convs)


@dataclass(frozen=True)
class Convolution:
    """One convolution: the groups it reads and makes, and multiplications for each pair of an input and an output channel."""

    each: int
    reads: ChannelGroup | int  # of a group, or so many channels of the picture
    makes: ChannelGroup | int
    block: int = 1  # filters that make one channel of the group

    def inputs(self, kept: Kept) -> int:
        """Return its input channels."""
        return self.reads if isinstance(self.reads, int) else kept[self.reads]

    def outputs(self, kept: Kept) -> int:
        """Return its output channels."""
        return self.makes if isinstance(self.makes, int) else kept[self.makes] * self.block


def cost_of(network: Network, shape: Shape) -> Cost:
    """Return the cost of a network at ``shape`` (n, c, h, w); of one with a branch for each scale, their sum."""
    groups = network.channel_groups()
    readers = {name: group for group in groups for name in group.consumers}
    makers = {name: group for group in groups for name in group.producers}
    found = []
    for one in network.at_each_scale():
        for name, (conv, positions) in _run(one, shape).items():
            made = makers.get(name)
            found.append(
                Convolution(
                    positions * math.prod(conv.kernel_size),
                    readers.get(name, conv.in_channels),
                    conv.out_channels if made is None else made,
                    1 if made is None else made.blocks[name],
                )
            )
    return Cost(tuple(found))


def _run(network: Network, shape: Sequence[int]) -> dict[str, tuple[nn.Conv2d, int]]:
    """Return each convolution with the positions it is computed at, nothing computed."""
    clone = build_like(network).to("meta")
    found: dict[str, tuple[nn.Conv2d, int]] = {}

    def hook_of(name: str, conv: nn.Conv2d) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[name] = conv, output.numel() // output.shape[1]

        conv.register_forward_hook(hook)

    for name, conv in convolutions(clone).items():
        hook_of(name, conv)
    with torch.no_grad():
        clone(torch.empty(tuple(shape), device="meta"))
    return found

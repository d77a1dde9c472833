"""Which tensors of a network, beside its convolutions, hold values for single channels: slopes, norms, scales.

No network has to name them. Every convolution gives noise in place of what it computes, and the gradient of one channel of what
the next one reads tells which values that channel was made with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

SIDE = 8  # pixels of what is sent through

Values = dict[str, tuple[int, int]]
"""A tensor's name in the state -> the dimension that counts channels, and how many of its values make one."""


def values_of_channels(network: Network) -> dict[ChannelGroup, Values]:
    """Return the tensors that hold values for each channel of a group, for every group that has such tensors."""
    found: dict[ChannelGroup, Values] = {}
    for one in network.at_each_scale() if _candidates(network) else ():
        clone = copy.deepcopy(one).train().requires_grad_(True)  # norms by the noise's statistics, not by stored ones
        for value in _candidates(clone).values():
            nn.init.constant_(value, 0.5)  # the network's own may be zeros that let nothing through
        read = _read_from_noise(clone)
        for group in network.channel_groups():
            for name in group.consumers:
                if name in read and read[name].requires_grad:
                    found.setdefault(group, {}).update(_values_behind(clone, read[name]))
    return {group: values for group, values in found.items() if values}


def rows_of(channels: Tensor, block: int) -> Tensor:
    """Return the places of ``channels`` where ``block`` values in a row make one."""
    return (channels[:, None] * block + torch.arange(block, device=channels.device)).flatten()


def _candidates(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that no convolution has, by name."""
    inside = {f"{name}.{part}" for name in convolutions(network) for part in ("weight", "bias")}
    return {name: value for name, value in network.named_parameters() if name not in inside and value.numel() > 1}


def _read_from_noise(network: Network) -> dict[str, Tensor]:
    """Return what every convolution reads, (1, c, h, w), where every convolution makes noise."""
    generator, read = torch.Generator().manual_seed(0), {}
    names = {conv: name for name, conv in convolutions(network).items()}

    def noise(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        read[names[conv]] = inputs[0]  # type: ignore[index]
        return torch.randn(output.shape, generator=generator)

    for conv in names:
        conv.register_forward_hook(noise)
    with torch.enable_grad():
        network(torch.rand(1, next(iter(names)).in_channels, SIDE, SIDE, generator=generator))
    return read


def _values_behind(network: nn.Module, read: Tensor) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the tensors that the last channel of ``read`` (n, c, h, w) is made with: name, dimension, values a channel."""
    candidates = _candidates(network)
    wanted = read[:, -1].square().sum()
    gradients = torch.autograd.grad(wanted, list(candidates.values()), allow_unused=True, retain_graph=True)
    for (name, value), gradient in zip(candidates.items(), gradients, strict=True):
        for dim in range(value.dim()) if gradient is not None else ():
            block, rest = divmod(value.shape[dim], read.shape[1])
            last = list(range(value.shape[dim] - block, value.shape[dim]))
            if block and not rest and sorted({*gradient.nonzero()[:, dim].tolist()}) == last:
                yield from ((like, (dim, block)) for like in _alike(network, name, value))


def _alike(network: nn.Module, name: str, value: Tensor) -> Iterator[str]:
    """Yield the name of a parameter and those of the buffers beside it of its shape: the statistics of a norm."""
    yield name
    module = name.rpartition(".")[0]
    for other, buffer in network.get_submodule(module).named_buffers(prefix=module, recurse=False):
        if buffer.shape == value.shape:
            yield other

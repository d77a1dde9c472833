"""Removing filters physically: the network is rebuilt with fewer channels from the surviving weights.

A removed filter's output channel is zero in the masked network: ReLU keeps zero, and so does what holds values for single
channels, with zeros for this one. So dropping it together with the weights that read it changes nothing: both networks compute
the same picture up to the order of additions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from sr_deploy.compress.pruning.masks import Masks
from sr_deploy.compress.pruning.per_channel import rows_of, values_of_channels
from sr_deploy.errors import CheckError, InputError
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import arch_of, build, convolutions

TOLERANCE = 1e-5


def mask_filters(network: Network, masks: Masks) -> Network:
    """Return a copy of ``network`` in which the filters that do not stay are zero."""
    clone = copy.deepcopy(network)
    state = clone.state_dict()  # the tensors themselves
    for name, mask in masks.items():
        for part in parts_of(name, state):
            state[part][~mask] = 0.0
    for group, values in values_of_channels(network).items():
        channels = kept_channels(group, masks)
        if channels is None:
            continue
        for name, (dim, block) in values.items():
            goes = torch.ones(state[name].shape[dim], dtype=torch.bool)
            goes[rows_of(channels, block)] = False
            state[name].movedim(dim, 0)[goes] = 0.0  # a norm of zeros makes zero
    return clone


def without_filters(network: Network, masks: Masks) -> Network:
    """Return a new, smaller network of the same class whose output equals the masked network's.

    Raises:
        InputError: convolutions that share channels have different masks, or a pruned one belongs to no group.
    """
    groups = network.channel_groups()
    kept = {group: kept_channels(group, masks) for group in groups}
    produced = {name for group in groups for name in group.producers}
    for name in masks:
        if name not in produced and not bool(masks[name].all()):
            raise InputError(f"{name}: its channels cannot be removed; exclude it from the config_list")
    state, values = network.state_dict(), values_of_channels(network)
    for group, channels in kept.items():
        if channels is None:
            continue
        for name, block in group.blocks.items():
            for part in parts_of(name, state):
                state[part] = state[part][rows_of(channels, block)]
        for name in group.consumers:
            state[f"{name}.weight"] = state[f"{name}.weight"][:, channels]
        for name, (dim, block) in values.get(group, {}).items():
            state[name] = state[name].index_select(dim, rows_of(channels, block))
    widths = tuple(state[f"{name}.weight"].shape[0] for name in convolutions(network))
    small = build(arch_of(network), widths, network.facts)
    for name, like in small.state_dict().items():
        if name in state and state[name].shape != like.shape:
            raise InputError(
                f"{name}: holds {tuple(state[name].shape)} values, the smaller network {tuple(like.shape)}, and which of them go "
                "with its channels is not known; read them in front of a convolution that the group names as its consumer"
            )
    small.load_state_dict(state)
    return small.train(network.training)


def parts_of(convolution: str, state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of a convolution's tensors in a state."""
    return [name for name in (f"{convolution}.weight", f"{convolution}.bias") if name in state]


def check_equal(masked_network: Network, small: Network, x: Tensor) -> float:
    """Return the largest difference of both networks' outputs on ``x`` (n, c, h, w), over every scale that has its own branch.

    Raises:
        CheckError: it is above ``TOLERANCE``.
    """
    pairs = zip(masked_network.at_each_scale(), small.at_each_scale(), strict=True)
    with torch.no_grad():
        worst = float(torch.stack([(ours(x) - theirs(x)).abs().max() for ours, theirs in pairs]).max())
    if not worst <= TOLERANCE:
        raise CheckError(
            f"pruning: the smaller network's output differs by {worst:.2e}, the limit is {TOLERANCE:.0e}; report this"
        )
    return worst


def kept_channels(group: ChannelGroup, masks: Masks) -> Tensor | None:
    """Return the places of the channels that stay, as the consumers see them; ``None`` where nothing of the group is pruned.

    Raises:
        InputError: the producers have different masks, or one splits what becomes one channel.
    """
    found = {name: masks[name].reshape(-1, group.blocks[name]) for name in group.producers if name in masks}
    for name, rows in found.items():
        block = group.blocks[name]
        if not bool((rows == rows[:, :1]).all()):
            raise InputError(
                f"{name}: {block} filters make one channel behind the shuffle and stay or go together; "
                f"give granularity [{block}, ...]"
            )
    channels = [rows[:, 0] for rows in found.values()]
    if channels and (len(channels) != len(group.producers) or any(not torch.equal(channels[0], one) for one in channels)):
        raise InputError(f"{', '.join(group.producers)}: share their channels and need one mask; name them all in one entry")
    return channels[0].nonzero().flatten() if channels else None

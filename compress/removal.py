"""Removing filters physically: the network is rebuilt with fewer channels from the surviving weights.

A removed filter's output channel is zero in the masked network (ReLU keeps zero), so dropping it together with the
weights that read it changes nothing: both networks compute the same picture up to the order of additions.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from sr_deploy.compress.masks import Masks
from sr_deploy.errors import CheckError, InputError
from sr_deploy.train.groups import ChannelGroup
from sr_deploy.train.networks import Network, arch_of, build, config_of, convolutions

TOLERANCE = 1e-5


def masked(network: nn.Module, masks: Masks) -> nn.Module:
    """Return a copy of ``network`` in which the filters that do not stay are zero."""
    clone = copy.deepcopy(network)
    with torch.no_grad():
        for name, mask in masks.items():
            conv = convolutions(clone)[name]
            conv.weight.mul_(mask.to(conv.weight)[:, None, None, None])
            if conv.bias is not None:
                conv.bias.mul_(mask.to(conv.bias))
    return clone


def without_filters(network: nn.Module, masks: Masks) -> nn.Module:
    """Return a new, smaller network of the same class whose output equals the masked network's.

    Raises:
        InputError: convolutions that share channels have different masks, or a pruned one belongs to no group.
    """
    groups = cast(Network, network).channel_groups()
    kept = {group: _kept(group, masks) for group in groups}
    produced = {name for group in groups for name in group.producers}
    for name in masks:
        if name not in produced and not bool(masks[name].all()):
            raise InputError(f"{name}: its channels cannot be removed; exclude it from the config_list")
    state = network.state_dict()
    for group, index in kept.items():
        if index is None:
            continue
        for name in group.producers:
            for part in (f"{name}.weight", f"{name}.bias"):
                if part in state:
                    state[part] = state[part][index]
        read = index if group.block == 1 else index[:: group.block] // group.block
        for name in group.consumers:
            state[f"{name}.weight"] = state[f"{name}.weight"][:, read]
    widths = tuple(state[f"{name}.weight"].shape[0] for name in convolutions(network))
    small = build(arch_of(network), widths, config_of(network))
    small.load_state_dict(state)
    return small.train(network.training)


def check_equal(masked_network: nn.Module, small: nn.Module, x: Tensor) -> float:
    """Return the largest difference of both networks' outputs on ``x`` (n, c, h, w).

    Raises:
        CheckError: it is above ``TOLERANCE``.
    """
    with torch.no_grad():
        worst = float((masked_network(x) - small(x)).abs().max())
    if not worst <= TOLERANCE:
        raise CheckError(
            f"pruning: the smaller network's output differs by {worst:.2e}, the limit is {TOLERANCE:.0e}; report this"
        )
    return worst


def _kept(group: ChannelGroup, masks: Masks) -> Tensor | None:
    found = [masks[name] for name in group.producers if name in masks]
    if not found:
        return None
    if len(found) != len(group.producers) or any(not torch.equal(found[0], mask) for mask in found):
        raise InputError(f"{', '.join(group.producers)}: share their channels and need one mask; name them all in one entry")
    if not bool((found[0].reshape(-1, group.block) == found[0].reshape(-1, group.block)[:, :1]).all()):
        raise InputError(
            f"{', '.join(group.producers)}: {group.block} filters make one channel behind the shuffle and stay or go together; "
            f"give granularity [{group.block}, ...]"
        )
    return found[0].nonzero().flatten()

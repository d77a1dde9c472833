"""What the layers of a network read, and which channels of it are left after pruning.

A :class:`~sr_deploy.train.networks.groups.ChannelGroup` names the convolutions that read its channels: at their input stands what
the group is to the rest of the network, behind activation, sum and PixelShuffle. So features are taken there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from sr_deploy.compress.pruning.masks import Masks
from sr_deploy.compress.pruning.removal import kept_channels
from sr_deploy.errors import InputError
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

Seen = Mapping[str, Tensor]
"""Convolution -> what it read: (n, c, h, w)."""

Hook = Callable[[nn.Module, tuple[Tensor, ...]], None]

MOST_LAYERS = 4  # compared where none are named


@contextmanager
def reading(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that holds what each of ``layers`` read in the forward pass made inside the block."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Hook:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = inputs[0]

        return hook

    with ExitStack() as stack:
        for name in layers:
            handle = network.get_submodule(name).register_forward_pre_hook(note(name))
            stack.callback(handle.remove)
        yield seen


def layers_of(network: Network, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the convolutions whose input is compared: those of ``names``, or up to four, evenly spaced.

    Without names they are readers of the residual stream where there is one, which every block adds to. What only one scale
    runs (MDSR) is not compared.

    Raises:
        InputError: a name is no convolution that reads channels which can be removed.
    """
    common = set.intersection(*({*convolutions(one)} for one in network.at_each_scale()))
    groups = network.channel_groups()
    readers = [name for group in groups for name in group.consumers if name in common]
    for name in names:
        if name not in readers:
            raise InputError(f"--distill-layers {name}: no convolution whose input can be compared; known: {', '.join(readers)}")
    if names:
        return tuple(dict.fromkeys(names))
    stream = max(groups, key=lambda group: len(group.consumers)).consumers
    found = [name for name in stream if name in common] if len(stream) > 1 else readers
    count = min(MOST_LAYERS, len(found))
    return tuple(found[(place + 1) * len(found) // count - 1] for place in range(count))


class Survivors:
    """Which channels of the dense network are left after one removal or several, as the dense network counts them."""

    def __init__(self, dense: Network) -> None:
        convs = convolutions(dense)
        self._left: dict[ChannelGroup, Tensor] = {
            group: torch.arange(convs[group.producers[0]].out_channels // group.blocks[group.producers[0]])
            for group in dense.channel_groups()
        }

    def remove_(self, masks: Masks) -> None:
        """Take away what ``masks`` of the present, smaller network remove."""
        for group, left in self._left.items():
            kept = kept_channels(group, masks)
            if kept is not None:
                self._left[group] = left[kept]

    def read_by(self, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the channels that each of ``layers`` still reads: int64 (k,), ascending."""
        return {name: left for name in layers for group, left in self._left.items() if name in group.consumers}

    def written(self) -> dict[str, Tensor]:
        """Return the outputs that each convolution of a group still has, as the dense network counts them: int64, ascending."""
        return {
            name: (left[:, None] * block + torch.arange(block)).flatten()
            for group, left in self._left.items()
            for name, block in group.blocks.items()
        }

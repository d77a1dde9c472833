"""How much each filter matters, measured on pictures; the L1 norm asks the weights alone.

Taylor: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: taking a filter out changes the squared
error by about the sum of gradient times weight over the filter; its square is averaged over batches. Activation: what is lost
to the layers behind is the filter's channel times the weights that read it, whatever they make of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sr_deploy.compress.teaching.features import reading
from sr_deploy.progress import progress
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.losses.expression import mean_squared
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

NAMES = {  # as the card says it
    "l1": "L1 norm of filters",
    "taylor": "first-order Taylor expansion of the squared error",
    "activation": "norm of channels times the weights that read them",
}


def taylor_scores(network: nn.Module, batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """Return the importance of every filter of every convolution: float (out,) of at least 0; the network is not changed."""
    convs = convolutions(network)
    scores = {name: torch.zeros(conv.out_channels) for name, conv in convs.items()}
    weights = {name: conv.weight for name, conv in convs.items()}
    with progress("measuring filters", len(batches)) as advance:
        for batch in batches:
            error = mean_squared(batch.through(network), batch.original)
            found = torch.autograd.grad(error, list(weights.values()), allow_unused=True)  # a scale runs its own branch (MDSR)
            for (name, weight), gradient in zip(weights.items(), found, strict=True):
                if gradient is not None:
                    scores[name] += (gradient * weight.detach()).flatten(1).sum(dim=1).square() / len(batches)
            advance()
    return scores


def activation_scores(network: Network, batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """Return how much the layers behind read of every filter: float (out,) of at least 0; the network is not changed.

    That is the norm of a channel times the norm of the weights that read it, summed over its readers; convolutions that share
    channels share the score, and so do filters that make one channel behind a PixelShuffle.
    """
    convs, groups = convolutions(network), network.channel_groups()
    readers = tuple(dict.fromkeys(name for group in groups for name in group.consumers))
    squares = {name: torch.zeros(convs[name].in_channels) for name in readers}
    with torch.no_grad(), progress("measuring filters", len(batches)) as advance:
        for batch in batches:
            with reading(network, readers) as seen:
                batch.through(network)
            for name, read in seen.items():
                squares[name] += read.square().mean((0, 2, 3))
            advance()
        norms = {name: convs[name].weight.square().sum((0, 2, 3)) * squares[name] for name in readers}
    scores: dict[str, Tensor] = {}
    for group in groups:
        channels = torch.stack([norms[name] for name in group.consumers]).sum(0).sqrt()
        scores |= {name: channels.repeat_interleave(block) for name, block in group.blocks.items()}
    return scores

"""How much each filter matters to the squared error, from the first-order Taylor expansion.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: taking a filter out changes the error by about
the sum of gradient times weight over the filter; its square is averaged over batches. The L1 norm asks the weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sr_deploy.progress import progress
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.losses.expression import mean_squared
from sr_deploy.train.networks.registry import convolutions

NAMES = {"l1": "L1 norm of filters", "taylor": "first-order Taylor expansion of the squared error"}  # as the card says it


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

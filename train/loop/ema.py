"""The moving average of the weights that a network has had, which is steadier than its last ones.

Every step moves it by ``1 - decay`` towards the present weights. So that the random start is forgotten, the decay of step
``t`` is at most ``(1 + t) / (10 + t)``, as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


class Average(Generic[N]):
    """A second network that holds the averaged weights, in evaluation mode."""

    def __init__(self, network: N, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    def update(self, network: N, step: int) -> None:
        """Take in the weights of ``network`` after ``step`` steps.

        Buffers are copied: those of batch normalisation are running averages already and belong to the data, not to one
        step's weights, and their count of batches is an integer.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            mine, theirs = ([p.detach() for p in n.parameters()] for n in (self.network, network))
            torch._foreach_lerp_(mine, theirs, 1.0 - decay)
            for own, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
                own.copy_(buffer)

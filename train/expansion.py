"""Kernels that are wider in training than at run time: the trick of SESR's collapsible linear blocks.

A 3x3 kernel of c filters is trained as the product of a 3x3 one of several times c filters and a 1x1 one that brings them back,
plus the identity where a convolution keeps its number of channels (Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient
Super Resolution", MLSys 2022, section 3). Both are linear with nothing between them, so they are multiplied out in weight space and
the pictures pass through one convolution: a step costs what it costs without, and the network that is saved is the plain one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sr_deploy.train.networks import convolutions

BRANCH = 0.3  # of the product in the kernel


class Product(nn.Module):
    """A kernel (out, in, k, k) as ``identity + BRANCH * narrow @ wide``, float32 even where the network computes in bfloat16."""

    identity: Tensor

    def __init__(self, kernel: Tensor, times: int) -> None:
        super().__init__()
        self.times = times
        square = kernel.shape[0] == kernel.shape[1]
        identity = nn.init.dirac_(torch.empty_like(kernel)) if square else torch.zeros_like(kernel)
        self.register_buffer("identity", identity, persistent=False)

    def forward(self, wide: Tensor, narrow: Tensor) -> Tensor:
        with torch.autocast(wide.device.type, enabled=False):
            return self.identity + BRANCH * (narrow @ wide.flatten(1)).view_as(self.identity)

    def right_inverse(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``wide`` (m, in, k, k) and ``narrow`` (out, m), random ones among those whose product makes ``kernel``."""
        out, features = kernel.shape[0], kernel[0].numel()
        narrow = nn.init.orthogonal_(kernel.new_empty(out, self.times * out))
        noise = torch.randn(self.times * out, features, device=kernel.device) * (2.0 / features) ** 0.5
        wanted = ((kernel - self.identity) / BRANCH).flatten(1)
        wide = noise + narrow.T @ (wanted - narrow @ noise)
        return wide.view(-1, *kernel.shape[1:]), narrow


def expand_(network: nn.Module, times: int) -> None:
    """Make every kernel of ``network`` a product that equals it, ``times`` as wide inside."""
    for layer in convolutions(network).values():
        parametrize.register_parametrization(layer, "weight", Product(layer.weight.detach(), times))


def collapse_(network: nn.Module) -> nn.Module:
    """Multiply the kernels of ``network`` out, where it was expanded, and return it: the plain network that it computed."""
    for layer in convolutions(network).values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return network

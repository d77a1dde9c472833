"""Kernels that are wider in training than at run time: the trick of SESR's collapsible linear blocks.

A 3x3 kernel of c filters is trained as the product of a 3x3 one of several times c filters and a 1x1 one that brings them
back, plus the identity where a convolution keeps its number of channels (Bhardwaj et al., "Collapsible Linear Blocks for
Super-Efficient Super Resolution", MLSys 2022, section 3). Both are linear with nothing between them, so they are multiplied out
in weight space and the pictures pass through one convolution: a step costs little more than without, and the network that is
saved is the plain one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

BRANCH = 0.3  # of the product in the kernel


class ExpandedConv2d(nn.Conv2d):
    """A convolution whose kernel (out, in, k, k) is ``identity + BRANCH * narrow @ wide``.

    The product is made in float32 even where the network computes in bfloat16.
    """

    identity: Tensor
    weight: None  # type: ignore[assignment]  # made again in every step

    def __init__(self, layer: nn.Conv2d, times: int) -> None:
        """Take over ``layer``: its kernel, by random ones among those whose product makes it, and its bias."""
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = None, layer.bias
        kernel = layer.weight.detach()
        square = layer.in_channels == layer.out_channels
        identity = nn.init.dirac_(torch.empty_like(kernel)) if square else torch.zeros_like(kernel)
        self.register_buffer("identity", identity, persistent=False)
        out, features = kernel.shape[0], kernel[0].numel()
        narrow = nn.init.orthogonal_(kernel.new_empty(out, times * out))
        noise = torch.randn(times * out, features, device=kernel.device) * (2.0 / features) ** 0.5
        wide = noise + narrow.T @ (((kernel - identity) / BRANCH).flatten(1) - narrow @ noise)
        self.narrow = nn.Parameter(narrow)  # (out, times * out)
        self.wide = nn.Parameter(wide.view(-1, *kernel.shape[1:]))  # (times * out, in, k, k)

    def kernel(self) -> Tensor:
        """Return the kernel (out, in, k, k) as the network computes with it."""
        with torch.autocast(self.wide.device.type, enabled=False):
            return self.identity + BRANCH * (self.narrow @ self.wide.flatten(1)).view_as(self.identity)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.kernel(), self.bias)
        return result

    def collapse(self) -> nn.Conv2d:
        """Return a convolution with the kernel multiplied out, and this one's bias."""
        plain = nn.Conv2d(self.in_channels, self.out_channels, self.kernel_size, padding=self.padding, device="meta")  # type: ignore[arg-type]
        plain.weight, plain.bias = nn.Parameter(self.kernel().detach()), self.bias
        return plain


def expand_(network: nn.Module, times: int) -> None:
    """Make every kernel of ``network`` a product that equals it, ``times`` as wide inside."""
    for name, layer in convolutions(network).items():
        network.set_submodule(name, ExpandedConv2d(layer, times))


def collapse_(network: Network) -> Network:
    """Multiply the kernels of ``network`` out, where it was expanded, and return it: the plain network that it computed."""
    for name, layer in convolutions(network).items():
        if isinstance(layer, ExpandedConv2d):
            network.set_submodule(name, layer.collapse())
    return network

"""A toy: two convolutions and a sub-pixel convolution, everything in low resolution.

A copy of it is ``train/networks/toy.py`` in docs/add_a_network.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.blocks import conv
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network


@dataclass(frozen=True)
class ToyConfig:
    """Output channels of each convolution in order, and what they do not tell."""

    widths: tuple[int, ...] = (16, 16, 4)
    scale: int = 2
    colors: int = 1  # 1: luma, 3: RGB

    def __post_init__(self) -> None:
        last = self.colors * self.scale**2
        if len(self.widths) != 3 or min(self.widths) < 1 or self.widths[-1] != last:
            raise InputError(f"toy: widths {self.widths} do not fit; give three, the last {last}")


def toy_widths(*, features: int = 16, scale: int = 2, colors: int = 1) -> tuple[int, ...]:
    """Return the widths of a network with ``features`` filters in each inner convolution."""
    return (features, features, colors * scale**2)


class Toy(Network):
    """Enlarge: float (n, c, h, w) in [0, 1] to (n, c, scale * h, scale * w), not clipped."""

    upscale: Upscale = "inside"  # "before": the network gets the enlarged picture

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.config = config
        head, body, tail = config.widths
        self.head, self.body = conv(config.colors, head), conv(head, body)
        self.tail = conv(body, tail)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.body(torch.relu(self.head(x))))
        return nn.functional.pixel_shuffle(self.tail(features), self.config.scale)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: those between two convolutions."""
        return (ChannelGroup(("head",), ("body",)), ChannelGroup(("body",), ("tail",)))

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it."""
        return 3

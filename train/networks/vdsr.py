"""VDSR: Kim, Lee, Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016.

Twenty 3x3 convolutions, 64 filters each, ReLU between them, and the input added to the output: the network learns the
residual between the bicubic enlargement and the original. One set of weights serves x2, x3 and x4.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network

MOST_WIDTH = 4096


@dataclass(frozen=True)
class VDSRConfig:
    """Output channels of each convolution; the last makes the residual: one channel for luma, three for RGB."""

    widths: tuple[int, ...] = (64,) * 19 + (1,)
    colors: int = 1  # 1: luma, 3: RGB

    def __post_init__(self) -> None:
        if self.colors not in (1, 3):
            raise InputError(f"VDSR: {self.colors} colours; choose 1 (luma) or 3 (RGB)")
        if len(self.widths) < 2 or min(self.widths) < 1 or self.widths[-1] != self.colors:
            raise InputError(f"VDSR: widths {self.widths} do not fit; give at least 2, all positive, the last {self.colors}")
        if max(self.widths) > MOST_WIDTH:
            raise InputError(f"VDSR: {max(self.widths)} filters in one layer, the most is {MOST_WIDTH}; 64 is the paper's")


class VDSR(Network):
    """Sharpen a picture enlarged by bicubic: float (n, c, h, w), nominally in [0, 1], to the same shape, not clipped."""

    upscale: Upscale = "before"

    def __init__(self, config: VDSRConfig) -> None:
        super().__init__(config)
        self.config = config
        channels = (config.colors, *config.widths)
        for number, (n_in, n_out) in enumerate(pairwise(channels), start=1):
            conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            self.add_module(f"conv{number}", conv)
        with torch.no_grad():
            self.conv(len(config.widths)).weight.mul_(0.03)  # begin close to the bicubic picture

    def conv(self, number: int) -> nn.Conv2d:
        """Return convolution ``number``, counted from 1."""
        module = self.get_submodule(f"conv{number}")
        assert isinstance(module, nn.Conv2d)
        return module

    def forward(self, x: Tensor) -> Tensor:
        depth = len(self.config.widths)
        features = x
        for number in range(1, depth):
            features = torch.relu(self.conv(number)(features))  # (n, widths[number - 1], h, w)
        residual: Tensor = self.conv(depth)(features)
        return x + residual  # (n, c, h, w)

    def halo(self) -> int:
        """Return how many pixels around an output pixel influence it: one for each 3x3 convolution."""
        return len(self.config.widths)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: those between one convolution and the next."""
        depth = len(self.config.widths)
        return tuple(ChannelGroup((f"conv{n}",), (f"conv{n + 1}",)) for n in range(1, depth))

"""The parts of which EDSR and MDSR are built: residual blocks without batch normalisation, and sub-pixel convolutions.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sr_deploy.train.networks.residual import Factors


def conv(n_in: int, n_out: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution of an odd ``kernel`` that keeps the size."""
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled and added to the input (section 3.1, figure 2c)."""

    def __init__(self, width: int, widths: Iterator[int], *, kernel: int = 3, res_scale: float = 1.0) -> None:
        """Take the outputs of both convolutions from ``widths``; the second has as many as the input, ``width``."""
        super().__init__()
        inner = next(widths)
        self.conv1, self.conv2, self.scale = conv(width, inner, kernel), conv(inner, next(widths), kernel), res_scale

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + (residual if self.scale == 1.0 else residual * self.scale)


class Upsampler(nn.ModuleList):
    """Convolutions, each with a PixelShuffle behind it: (n, c, h, w) to (n, ``width``, scale * h, scale * w)."""

    def __init__(self, width: int, widths: Iterator[int], factors: Factors) -> None:
        """Take the outputs of the convolutions from ``widths``; ``width`` channels come in."""
        super().__init__()
        self.factors = factors
        for factor in factors:
            wide = next(widths)
            self.append(conv(width, wide))
            width = wide // factor**2
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        for layer, factor in zip(self, self.factors, strict=True):
            features = nn.functional.pixel_shuffle(layer(features), factor)
        return features

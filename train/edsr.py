"""EDSR: Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017.

A head, residual blocks without batch normalisation, a long skip around them, an upsampler of sub-pixel convolutions
(``PixelShuffle``) and a tail, one network for each scale. The low-resolution picture goes in; the enlargement happens inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.train.groups import ChannelGroup
from sr_deploy.train.residual import blocks_of, check_widths, residual_groups, uniform_widths

UPSAMPLERS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2)}  # the factor of each PixelShuffle, section 3.3
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, of the training set, in [0, 1]


@dataclass(frozen=True)
class EDSRConfig:
    """Output channels of each convolution in order, and what they do not tell."""

    widths: tuple[int, ...] = (64, *(64, 64) * 16, 64, 256, 1)
    scale: int = 2
    colors: int = 1  # 1: luma, 3: RGB
    res_scale: float = 1.0  # 0.1 in the large network, section 3.1

    def __post_init__(self) -> None:
        if self.scale not in UPSAMPLERS:
            raise InputError(f"EDSR: scale {self.scale} is not served; known: {', '.join(map(str, UPSAMPLERS))}")
        if not 0.0 < self.res_scale <= 1.0:
            raise InputError(f"EDSR: residual scaling {self.res_scale} is not in (0, 1]; 0.1 and 1 are usual")
        check_widths("EDSR", self.widths, self.factors, self.colors)

    @property
    def factors(self) -> tuple[int, ...]:
        """The factor of each PixelShuffle."""
        return UPSAMPLERS[self.scale]

    @property
    def blocks(self) -> int:
        """The number of residual blocks."""
        return blocks_of(self.widths, self.factors)


def edsr_widths(*, blocks: int = 16, features: int = 64, scale: int = 2, colors: int = 1) -> tuple[int, ...]:
    """Return the widths of a uniform network: ``baseline`` is 16 blocks of 64 features, ``large`` 32 of 256."""
    return uniform_widths(blocks, features, UPSAMPLERS.get(scale, ()), colors)


class EDSR(nn.Module):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), not clipped."""

    upscale = "inside"
    mean: Tensor

    def __init__(self, config: EDSRConfig) -> None:
        super().__init__()
        self.config = config
        widths = iter(config.widths)
        width = next(widths)
        self.head = _conv(config.colors, width)
        self.body = nn.ModuleList()
        for _ in range(config.blocks):
            inner = next(widths)
            self.body.append(_Block(width, inner, next(widths), config.res_scale))
        self.body_end = _conv(width, next(widths))
        self.up = nn.ModuleList()
        for factor in config.factors:
            wide = next(widths)
            self.up.append(_conv(width, wide))
            width = wide // factor**2
        self.tail = _conv(width, next(widths))
        mean = torch.tensor(DIV2K_MEAN if config.colors == 3 else (0.0,))
        self.register_buffer("mean", mean[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        colour = self.config.colors == 3
        start: Tensor = self.head(x - self.mean if colour else x)  # (n, features, h, w)
        features = start
        for block in self.body:
            features = block(features)
        features = self.body_end(features) + start
        for conv, factor in zip(self.up, self.config.factors, strict=True):
            features = nn.functional.pixel_shuffle(conv(features), factor)
        result: Tensor = self.tail(features)  # (n, c, scale * h, scale * w)
        return result + self.mean if colour else result

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: inside each block, the stream they share, and those of the upsampler."""
        return residual_groups(self.config.blocks, self.config.factors)

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it."""
        reach, factor = Fraction(2 * self.config.blocks + 2), 1
        for step in self.config.factors:
            reach += Fraction(1, factor)
            factor *= step
        return math.ceil(reach + Fraction(1, factor))


class _Block(nn.Module):
    """Convolution, ReLU, convolution, scaled and added to the input (section 3.1, figure 2c)."""

    def __init__(self, width: int, inner: int, out: int, scale: float) -> None:
        super().__init__()
        self.conv1, self.conv2, self.scale = _conv(width, inner), _conv(inner, out), scale

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + (residual if self.scale == 1.0 else residual * self.scale)


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1)

"""EDSR: Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017.

A head, residual blocks without batch normalisation, a long skip around them, an upsampler of sub-pixel convolutions
(``PixelShuffle``) and a tail, one network for each scale. The low-resolution picture goes in; the enlargement happens inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.blocks import ResidualBlock, Upsampler, conv
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.residual import blocks_of, check_res_scale, check_widths, halo_of, residual_groups, uniform_widths

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
            raise InputError(f"EDSR: scale {self.scale} is not served; choose among {', '.join(map(str, UPSAMPLERS))}")
        check_res_scale("EDSR", self.res_scale)
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


class EDSR(Network):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), not clipped."""

    upscale: Upscale = "inside"
    mean: Tensor

    def __init__(self, config: EDSRConfig) -> None:
        super().__init__(config)
        self.config = config
        widths = iter(config.widths)
        width = next(widths)
        self.head = conv(config.colors, width)
        self.body = nn.Sequential(*(ResidualBlock(width, widths, res_scale=config.res_scale) for _ in range(config.blocks)))
        self.body_end = conv(width, next(widths))
        self.up = Upsampler(width, widths, config.factors)
        self.tail = conv(self.up.width, next(widths))
        self.register_buffer("mean", mean_of(config.colors), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        colour = self.config.colors == 3
        start: Tensor = self.head(x - self.mean if colour else x)  # (n, features, h, w)
        result: Tensor = self.tail(self.up(self.body_end(self.body(start)) + start))  # (n, c, scale * h, scale * w)
        return result + self.mean if colour else result

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: inside each block, the stream they share, and those of the upsampler."""
        return residual_groups(self.config.blocks, self.config.factors)

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it."""
        return halo_of(2 * self.config.blocks + 2, self.config.factors, tail=1)


def mean_of(colors: int) -> Tensor:
    """Return what is taken off a picture and put back: float32 (c, 1, 1), zero for luma."""
    return torch.tensor(DIV2K_MEAN if colors == 3 else (0.0,))[:, None, None]

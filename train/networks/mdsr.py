"""MDSR: Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, figure 5.

One network for several scales (section 3.3). A head; for each scale two residual blocks of 5x5 kernels of its own; a body that
all scales share, with a long skip from what enters it; for each scale an upsampler of its own; a tail that all share. A
picture goes through one branch, so ``at_scale`` takes a network for one scale out of it, and that is what runs and is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.blocks import ResidualBlock, Upsampler, conv
from sr_deploy.train.networks.edsr import UPSAMPLERS, mean_of
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.residual import (
    Factors,
    blocks_of,
    branched_groups,
    check_res_scale,
    check_widths,
    halo_of,
    uniform_widths,
)

BEFORE = 2  # residual blocks of each scale in front of the body, "pre-processing modules"
KERNEL = 5  # of their convolutions


@dataclass(frozen=True)
class MDSRConfig:
    """Output channels of each convolution in order, and what they do not tell.

    The order is that of the picture's way: head, the pre-processing of every scale, body and its end, the upsampler of every
    scale, tail. ``x2``, ``x3`` and ``x4`` are 1 for a scale that is served and 0 for one that is not.
    """

    widths: tuple[int, ...] = (64, *(64, 64) * 3 * BEFORE, *(64, 64) * 16, 64, 256, 576, 256, 256, 1)
    x2: int = 1
    x3: int = 1
    x4: int = 1
    colors: int = 1  # 1: luma, 3: RGB
    res_scale: float = 1.0  # of every residual block; 1 in the paper

    def __post_init__(self) -> None:
        served = {f"x{scale}": value for scale, value in self._served.items()}
        if not set(served.values()) <= {0, 1} or not self.scales:
            raise InputError(f"MDSR: scales {served} do not fit; 1 for each that is served, 0 for the others, at least one 1")
        check_res_scale("MDSR", self.res_scale)
        check_widths("MDSR", self.widths, self.factors, self.colors, least_blocks=BEFORE * len(self.scales) + 1)
        if len(set(self.shuffled.values())) != 1:
            text = ", ".join(f"{width} of x{scale}" for scale, width in self.shuffled.items())
            raise InputError(f"MDSR: widths {self.widths} do not fit; the tail reads {text}, which must be equal")

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales that are served, the smallest first."""
        return tuple(scale for scale, value in self._served.items() if value)

    @property
    def factors(self) -> Factors:
        """The factor of each PixelShuffle, of one scale after another."""
        return tuple(factor for scale in self.scales for factor in UPSAMPLERS[scale])

    @property
    def blocks(self) -> int:
        """The number of residual blocks in the body."""
        return blocks_of(self.widths, self.factors) - BEFORE * len(self.scales)

    @property
    def ups(self) -> dict[int, tuple[int, ...]]:
        """The widths of each scale's upsampler."""
        widths = iter(self.widths[-1 - len(self.factors) : -1])
        return {scale: tuple(islice(widths, len(UPSAMPLERS[scale]))) for scale in self.scales}

    @property
    def shuffled(self) -> dict[int, int]:
        """The channels that each scale's upsampler hands to the tail."""
        return {scale: widths[-1] // UPSAMPLERS[scale][-1] ** 2 for scale, widths in self.ups.items()}

    def at(self, scale: int) -> MDSRConfig:
        """Return the config of the network for one of the scales."""
        place, count = self.scales.index(scale), 2 * BEFORE
        before = self.widths[1 + count * place : 1 + count * (place + 1)]
        body = self.widths[1 + count * len(self.scales) : -1 - len(self.factors)]
        widths = (self.widths[0], *before, *body, *self.ups[scale], self.widths[-1])
        return replace(self, widths=widths, **{f"x{other}": int(other == scale) for other in UPSAMPLERS})

    @property
    def _served(self) -> dict[int, int]:
        return {2: self.x2, 3: self.x3, 4: self.x4}


def mdsr_widths(
    *, blocks: int = 16, features: int = 64, colors: int = 1, x2: int = 1, x3: int = 1, x4: int = 1
) -> tuple[int, ...]:
    """Return the widths of a uniform network: ``baseline`` is 16 blocks of 64 features, ``large`` 80 of 64."""
    scales = [scale for scale, served in ((2, x2), (3, x3), (4, x4)) if served]
    factors = tuple(factor for scale in scales for factor in UPSAMPLERS[scale])
    return uniform_widths(BEFORE * len(scales) + blocks, features, factors, colors)


class MDSR(Network):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), not clipped, for a scale it serves."""

    upscale: Upscale = "inside"
    mean: Tensor

    def __init__(self, config: MDSRConfig) -> None:
        super().__init__(config)
        self.config = config
        widths = iter(config.widths)
        width = next(widths)

        def blocks(count: int, kernel: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, widths, kernel=kernel, res_scale=config.res_scale) for _ in range(count)))

        self.head = conv(config.colors, width)
        self.pre = nn.ModuleDict({f"x{scale}": blocks(BEFORE, KERNEL) for scale in config.scales})
        self.body = blocks(config.blocks, 3)
        self.body_end = conv(width, next(widths))
        self.up = nn.ModuleDict({f"x{scale}": Upsampler(width, widths, UPSAMPLERS[scale]) for scale in config.scales})
        self.tail = conv(config.shuffled[config.scales[0]], next(widths))
        self.register_buffer("mean", mean_of(config.colors), persistent=False)

    def forward(self, x: Tensor, scale: int | None = None) -> Tensor:
        """Return the picture enlarged ``scale`` times.

        Raises:
            ValueError: the scale is not served, or left out where several are.
        """
        scales = self.config.scales
        if scale is None and len(scales) == 1:
            scale = scales[0]
        if scale not in scales:
            raise ValueError(f"scale {scale}: this network serves {', '.join(map(str, scales))}; name one of them")
        colour, branch = self.config.colors == 3, f"x{scale}"
        start: Tensor = self.pre[branch](self.head(x - self.mean if colour else x))  # (n, features, h, w)
        result: Tensor = self.tail(self.up[branch](self.body_end(self.body(start)) + start))  # (n, c, scale * h, scale * w)
        return result + self.mean if colour else result

    def at_scale(self, scale: int) -> MDSR:
        """Return the network for one scale; it is made of this one's modules, so both have the same weights for ever.

        Raises:
            InputError: the scale is not served.
        """
        if scale not in self.config.scales:
            raise InputError(f"MDSR: scale {scale} is not served; this network serves {', '.join(map(str, self.config.scales))}")
        if self.config.scales == (scale,):
            return self
        with torch.device("meta"):
            one, branch = MDSR(self.config.at(scale)), f"x{scale}"
        one.head, one.body, one.body_end, one.tail, one.mean = self.head, self.body, self.body_end, self.tail, self.mean
        one.pre, one.up = (nn.ModuleDict({branch: parts[branch]}) for parts in (self.pre, self.up))
        one.training = self.training
        return one

    def at_each_scale(self) -> tuple[Network, ...]:
        """Return the network for each scale."""
        return tuple(self.at_scale(scale) for scale in self.config.scales)

    def served(self, scales: Sequence[int]) -> tuple[int, ...]:
        """Return those of ``scales`` that it has a branch for."""
        return tuple(scale for scale in scales if scale in self.config.scales)

    def fixed_inputs(self) -> dict[str, object]:
        """Return that no scale is named: what is traced has one branch."""
        return {"scale": None}

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: inside each block, the stream they share, and those of the upsamplers.

        Every scale's pre-processing adds to what the head makes, and the body to what comes out of it: all of it is one stream.
        """
        before = [f"pre.x{scale}.{i}" for scale in self.config.scales for i in range(BEFORE)]
        body = [f"body.{i}" for i in range(self.config.blocks)]
        return branched_groups([*before, *body], {f"up.x{scale}": UPSAMPLERS[scale] for scale in self.config.scales})

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it, at the scale that reaches furthest."""
        before = 1 + BEFORE * (KERNEL - 1) + 2 * self.config.blocks + 1
        return max(halo_of(before, UPSAMPLERS[scale], tail=1) for scale in self.config.scales)

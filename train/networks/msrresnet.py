"""MSRResNet, BasicSR's form of SRResNet (github.com/XPixelGroup/BasicSR, ``srresnet_arch.py``): without normalisation.

A head, residual blocks as EDSR's, sub-pixel convolutions and one more at the enlarged size, LeakyReLU between them, a tail. There
is no long skip around the blocks: the network adds to the picture enlarged by bilinear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.blocks import ResidualBlock, conv
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.residual import MOST_BLOCKS, MOST_WIDTH, Factors, halo_of

UPSAMPLERS: dict[int, Factors] = {2: (2,), 3: (3,), 4: (2, 2)}  # the factor of each PixelShuffle
SLOPE = 0.1  # of LeakyReLU


@dataclass(frozen=True)
class MSRResNetConfig:
    """Output channels of each convolution in order, and what they do not tell."""

    widths: tuple[int, ...] = (64, *(64, 64) * 16, 256, 256, 64, 1)
    scale: int = 4
    colors: int = 1  # 1: luma, 3: RGB

    def __post_init__(self) -> None:
        if self.scale not in UPSAMPLERS:
            raise InputError(f"MSRResNet: scale {self.scale} is not served; choose among {', '.join(map(str, UPSAMPLERS))}")
        if self.colors not in (1, 3):
            raise InputError(f"MSRResNet: {self.colors} colours; choose 1 (luma) or 3 (RGB)")
        steps, blocks = len(self.factors), self.blocks
        if not 1 <= blocks <= MOST_BLOCKS or len(self.widths) != 2 * blocks + 3 + steps:
            raise InputError(f"MSRResNet: {len(self.widths)} widths do not fit; give 3 + 2 a block + {steps} for the upsampler")
        if min(self.widths) < 1 or max(self.widths) > MOST_WIDTH or self.widths[-1] != self.colors:
            raise InputError(f"MSRResNet: widths {self.widths} do not fit; all must be 1 to {MOST_WIDTH}, the last {self.colors}")
        if len(set(self.widths[: 2 * blocks + 1 : 2])) != 1:
            raise InputError(f"MSRResNet: widths {self.widths} do not fit; what is added to one stream must have one width")
        for width, factor in zip(self.widths[2 * blocks + 1 :], self.factors, strict=False):
            if width % factor**2:
                raise InputError(
                    f"MSRResNet: {width} channels before PixelShuffle({factor}) are no multiple of {factor**2}; use one"
                )

    @property
    def factors(self) -> Factors:
        """The factor of each PixelShuffle."""
        return UPSAMPLERS[self.scale]

    @property
    def blocks(self) -> int:
        """The number of residual blocks."""
        return (len(self.widths) - 3 - len(self.factors)) // 2


def msrresnet_widths(*, blocks: int = 16, features: int = 64, scale: int = 4, colors: int = 1) -> tuple[int, ...]:
    """Return the widths of a uniform network; BasicSR's has 16 blocks of 64 features."""
    shuffled = (features * factor**2 for factor in UPSAMPLERS.get(scale, ()))
    return (features, *(features, features) * blocks, *shuffled, features, colors)


class MSRResNet(Network):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), not clipped."""

    upscale: Upscale = "inside"

    def __init__(self, config: MSRResNetConfig) -> None:
        super().__init__(config)
        self.config = config
        widths = iter(config.widths)
        width = next(widths)
        self.head = conv(config.colors, width)
        self.body = nn.Sequential(*(ResidualBlock(width, widths) for _ in range(config.blocks)))
        self.up = nn.ModuleList()
        for factor in config.factors:
            wide = next(widths)
            self.up.append(conv(width, wide))
            width = wide // factor**2
        last = next(widths)
        self.hr, self.tail = conv(width, last), conv(last, next(widths))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(_activate(self.head(x)))  # (n, features, h, w)
        for layer, factor in zip(self.up, self.config.factors, strict=True):
            features = _activate(nn.functional.pixel_shuffle(layer(features), factor))
        result: Tensor = self.tail(_activate(self.hr(features)))  # (n, c, scale * h, scale * w)
        return result + nn.functional.interpolate(x, scale_factor=self.config.scale, mode="bilinear", align_corners=False)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: inside each block, the stream they share, and those behind it.

        LeakyReLU keeps zero at zero, so it needs no mask.
        """
        blocks, factors = range(self.config.blocks), self.config.factors
        inner = [ChannelGroup((f"body.{i}.conv1",), (f"body.{i}.conv2",)) for i in blocks]
        stream = ChannelGroup(("head", *(f"body.{i}.conv2" for i in blocks)), (*(f"body.{i}.conv1" for i in blocks), "up.0"))
        readers = [*(f"up.{i}" for i in range(1, len(factors))), "hr"]
        shuffled = [
            ChannelGroup((f"up.{i}",), (reader,), block=factor**2)
            for i, (reader, factor) in enumerate(zip(readers, factors, strict=True))
        ]
        return (*inner, stream, *shuffled, ChannelGroup(("hr",), ("tail",)))

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it; bilinear interpolation sees one, so less."""
        return halo_of(1 + 2 * self.config.blocks, self.config.factors, tail=2)


def _activate(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu(x, SLOPE)

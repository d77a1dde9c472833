"""SRResNet, the generator of SRGAN: Ledig et al., "Photo-Realistic Single Image Super-Resolution", CVPR 2017, figure 4.

A 9x9 head, residual blocks of two 3x3 convolutions with batch normalisation and PReLU, a long skip, sub-pixel convolutions and a
9x9 tail. Batch normalisation is an affine map once training is over: ``folded`` puts it into the convolutions before it, and
that is the form that is pruned and exported. Public networks differ in what the config tells: instance normalisation in its
place, a PReLU at the end of the long skip, a tanh behind the tail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network, Start, State
from sr_deploy.train.networks.residual import blocks_of, check_widths, halo_of, residual_groups, uniform_widths
from sr_deploy.train.networks.srresnet_from_edsr import is_edsr, srresnet_state

UPSAMPLERS: dict[int, tuple[int, ...]] = {2: (2,), 4: (2, 2), 8: (2, 2, 2)}  # the factor of each PixelShuffle; 4 in the paper
INSTANCE = 2
NORMS = {0: "folded", 1: "batch normalisation", INSTANCE: "instance normalisation"}


@dataclass(frozen=True)
class SRResNetConfig:
    """Output channels of each convolution in order, and what they do not tell."""

    widths: tuple[int, ...] = (64, *(64, 64) * 16, 64, 256, 256, 1)
    scale: int = 4
    colors: int = 1  # 1: luma, 3: RGB
    norm: int = 1  # 1: batch normalisation, 0: folded into the convolutions, 2: instance normalisation
    end_act: int = 0  # 1: a PReLU ends the long skip in place of its normalisation
    tanh: int = 0  # 1: (tanh + 1) / 2 makes the picture

    def __post_init__(self) -> None:
        if self.scale not in UPSAMPLERS:
            raise InputError(f"SRResNet: scale {self.scale} is not served; choose among {', '.join(map(str, UPSAMPLERS))}")
        if self.norm not in NORMS:
            known = ", ".join(f"{number} ({name})" for number, name in NORMS.items())
            raise InputError(f"SRResNet: norm {self.norm} is not known; choose among {known}")
        for name, value in (("end_act", self.end_act), ("tanh", self.tanh)):
            if value not in (0, 1):
                raise InputError(f"SRResNet: {name} {value}; choose 1 (with) or 0 (without)")
        check_widths("SRResNet", self.widths, self.factors, self.colors)

    @property
    def factors(self) -> tuple[int, ...]:
        """The factor of each PixelShuffle."""
        return UPSAMPLERS[self.scale]

    @property
    def blocks(self) -> int:
        """The number of residual blocks."""
        return blocks_of(self.widths, self.factors)


def srresnet_widths(*, blocks: int = 16, features: int = 64, scale: int = 4, colors: int = 1) -> tuple[int, ...]:
    """Return the widths of a uniform network; the paper's has 16 blocks of 64 features."""
    return uniform_widths(blocks, features, UPSAMPLERS.get(scale, ()), colors)


class SRResNet(Network):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), not clipped."""

    upscale: Upscale = "inside"

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__(config)
        self.config = config
        widths = iter(config.widths)
        width = next(widths)
        self.head, self.head_act = nn.Conv2d(config.colors, width, 9, padding=4), nn.PReLU()
        self.body = nn.ModuleList()
        for _ in range(config.blocks):
            inner = next(widths)
            self.body.append(_Block(width, inner, next(widths), norm=config.norm))
        end_norm = 0 if config.end_act else config.norm
        self.body_end = _conv(width, next(widths), norm=end_norm)
        self.body_end_norm = _norm(width, norm=end_norm)
        self.body_end_act = nn.PReLU() if config.end_act else nn.Identity()
        self.up, self.up_act = nn.ModuleList(), nn.ModuleList()
        for factor in config.factors:
            wide = next(widths)
            self.up.append(nn.Conv2d(width, wide, 3, padding=1))
            self.up_act.append(nn.PReLU())
            width = wide // factor**2
        self.tail = nn.Conv2d(width, next(widths), 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        start: Tensor = self.head_act(self.head(x))  # (n, features, h, w)
        features = start
        for block in self.body:
            features = block(features)
        features = self.body_end_act(self.body_end_norm(self.body_end(features))) + start
        for conv, act, factor in zip(self.up, self.up_act, self.config.factors, strict=True):
            features = act(nn.functional.pixel_shuffle(conv(features), factor))
        result: Tensor = self.tail(features)  # (n, c, scale * h, scale * w)
        return (torch.tanh(result) + 1.0) / 2.0 if self.config.tanh else result

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: inside each block, the stream they share, and those of the upsampler.

        A PReLU of one slope keeps zero at zero, so it needs no mask.
        """
        return residual_groups(self.config.blocks, self.config.factors)

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it; instance normalisation apart, which sees all."""
        return halo_of(4 + 2 * self.config.blocks + 1, self.config.factors, tail=4)

    def state_from(self, start: Start) -> State:
        """Return the tensors of another SRResNet, or those that compute what an EDSR does."""
        if not is_edsr(start.state):
            return super().state_from(start)
        scaling = float(start.config.get("res_scale", 1.0))
        grown = srresnet_state(start.state, self, res_scale=scaling)
        return super().state_from(replace(start, state=grown))

    def invents_norms(self, start: Start) -> bool:
        """Return whether ``start`` is an EDSR, which has no norms."""
        return is_edsr(start.state)

    def folded(self) -> SRResNet:
        """Return a new network without batch normalisation that computes the same, in evaluation mode.

        Raises:
            InputError: it has instance normalisation, which is no fixed map.
        """
        if self.config.norm == 0:
            return self
        if self.config.norm == INSTANCE:
            raise InputError(
                "SRResNet: its instance normalisation takes mean and variance of the whole picture, so tiles could not be exact "
                "and it cannot be folded for pruning and export; sr-eval takes it, or name a network with batch normalisation"
            )
        plain = SRResNet(replace(self.config, norm=0))
        state = {name: value for name, value in self.state_dict().items() if "norm" not in name}
        pairs = [(f"body.{i}.conv{n}", f"body.{i}.norm{n}") for i in range(self.config.blocks) for n in (1, 2)]
        for conv, norm in (*pairs, *(() if self.config.end_act else (("body_end", "body_end_norm"),))):
            first, second = self.get_submodule(conv), self.get_submodule(norm)
            assert isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
            fused = nn.utils.fusion.fuse_conv_bn_eval(first.eval(), second.eval())
            assert fused.bias is not None
            state[f"{conv}.weight"], state[f"{conv}.bias"] = fused.weight.detach(), fused.bias.detach()
        plain.load_state_dict(state)
        return plain.eval()


class _Block(nn.Module):
    """Convolution, norm, PReLU, convolution, norm, added to the input."""

    def __init__(self, width: int, inner: int, out: int, *, norm: int) -> None:
        super().__init__()
        self.conv1, self.norm1, self.act = _conv(width, inner, norm=norm), _norm(inner, norm=norm), nn.PReLU()
        self.conv2, self.norm2 = _conv(inner, out, norm=norm), _norm(out, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return x + residual


def _conv(n_in: int, n_out: int, *, norm: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, bias=norm == 0)


def _norm(width: int, *, norm: int) -> nn.Module:
    if norm == 0:
        return nn.Identity()
    return nn.InstanceNorm2d(width, affine=True) if norm == INSTANCE else nn.BatchNorm2d(width)

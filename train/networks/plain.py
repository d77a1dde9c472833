"""Plain networks in low resolution: a chain of 3x3 convolutions, a sub-pixel convolution, and as a rule the picture itself added.

The family of ESPCN (Shi et al., CVPR 2016), SESR (Bhardwaj et al., MLSys 2022), ECBSR (Zhang et al., ACM MM 2021) and ETDS
(Chao et al., CVPR 2023) in the form in which they run: everything is computed at the size of the low-resolution picture, so a
result of scale * scale times the pixels costs no more. What such a network is trained as may be wider:
``train/networks/expansion.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.networks.blocks import conv
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network, Start, State

MOST_WIDTH, MOST_SCALE, MOST_DEPTH = 4096, 8, 1024
BRANCH = 0.3  # of a layer's random kernel beside its identity at the start: deep chains of ReLU keep their signal


@dataclass(frozen=True)
class PlainConfig:
    """Output channels of each convolution in order, and what they do not tell; the default is ``l``, luma, x2."""

    widths: tuple[int, ...] = (48,) * 8 + (4,)
    scale: int = 2
    colors: int = 1  # 1: luma, 3: RGB
    prelu: int = 0  # 1: PReLU with a slope for each channel, 0: ReLU
    residual: int = 1  # 1: the picture is added, 0: the convolutions carry it themselves, as ETDS's do (its dual stream)
    clip: int = 0  # 1: the result is clipped to [0, 1]

    def __post_init__(self) -> None:
        if self.colors not in (1, 3):
            raise InputError(f"plain: {self.colors} colours; choose 1 (luma) or 3 (RGB)")
        if not 1 <= self.scale <= MOST_SCALE:
            raise InputError(f"plain: scale {self.scale} is not served; choose 1 to {MOST_SCALE}")
        last = self.colors * self.scale**2
        if not 2 <= len(self.widths) <= MOST_DEPTH or min(self.widths) < 1 or self.widths[-1] != last:
            raise InputError(
                f"plain: widths {self.widths} do not fit; give 2 to {MOST_DEPTH}, all positive, "
                f"the last {last} (colours x scale x scale)"
            )
        if max(self.widths) > MOST_WIDTH:
            raise InputError(f"plain: {max(self.widths)} filters in one layer, the most is {MOST_WIDTH}; 32 to 64 are usual")


def plain_widths(*, blocks: int = 7, features: int = 48, scale: int = 2, colors: int = 1) -> tuple[int, ...]:
    """Return the widths of a uniform network: ``m`` is 6 convolutions of 32 filters between head and tail, ``l`` 7 of 48."""
    return (features,) * (blocks + 1) + (colors * scale**2,)


def rescale_filters(filters: Tensor, *, colors: int, old: int, new: int) -> Tensor:
    """Return the filters or biases of a last convolution for the scale ``new``, from those for ``old``.

    Each sub-pixel of the new scale is made as the one of the old scale that lies where it does, so that a network started from
    one of another scale begins with its picture.
    """
    place = [i * old // new for i in range(new)]
    grid = filters.view(colors, old, old, *filters.shape[1:])
    return grid[:, place][:, :, place].reshape(colors * new**2, *filters.shape[1:])


class Plain(Network):
    """Enlarge: float (n, c, h, w), nominally in [0, 1], to (n, c, scale * h, scale * w), clipped only by ``clip``."""

    upscale: Upscale = "inside"
    sources: Tensor

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.config = config
        head, *body, tail = config.widths
        inputs = [head, *body]
        self.head = conv(config.colors, head)
        self.body = nn.Sequential(*(conv(n_in, n_out) for n_in, n_out in zip(inputs, body, strict=False)))
        self.tail = conv(inputs[-1], tail)
        self.slopes = nn.ModuleList(nn.PReLU(width) for width in inputs) if config.prelu else None
        sources = torch.arange(config.colors).repeat_interleave(config.scale**2)
        self.register_buffer("sources", sources, persistent=False)  # the channel of the picture that each sub-pixel is of
        self._begin_()

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for number, layer in enumerate((self.head, *self.body)):
            features = layer(features)  # (n, widths[number], h, w)
            features = torch.relu(features) if self.slopes is None else self.slopes[number](features)
        result = self.tail(features)  # (n, c * scale^2, h, w)
        if self.config.residual:
            # Broadcast, or one Gather in a graph; a Reshape there would fix the number of tiles.
            result = result + (x if self.config.colors == 1 else x.index_select(1, self.sources))
        if self.config.clip:
            result = result.clamp(0.0, 1.0)
        return nn.functional.pixel_shuffle(result, self.config.scale)

    def _begin_(self) -> None:
        """Begin near the identity inside, and near the repeated picture at the end."""
        with torch.no_grad():
            for layer in (self.head, *self.body):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.in_channels == layer.out_channels:
                    layer.weight.mul_(BRANCH).add_(nn.init.dirac_(torch.empty_like(layer.weight)))
            self.tail.weight.mul_(0.1)
            for layer in (self.head, *self.body, self.tail):
                nn.init.zeros_(cast(Tensor, layer.bias))

    def state_from(self, start: Start) -> State:
        """Return the tensors of another plain network, the last convolution made for this scale.

        Raises:
            InputError: it is another kind of network, or computes in another way.
        """
        source, theirs, ours = start.source, start.config, self.facts
        if start.arch != "plain":
            raise InputError(
                f"--init-from {source}: is {start.arch}, a plain network begins with a plain one; leave it out, or name one"
            )
        for name in ("residual", "clip", "prelu"):
            if theirs.get(name, ours[name]) != ours[name]:
                raise InputError(
                    f"--init-from {source}: has {name} {theirs[name]:g}, this network {ours[name]:g}; "
                    "begin with a checkpoint of sr-train"
                )
        scales = {"colors": self.config.colors, "old": int(theirs["scale"]), "new": self.config.scale}
        return start.state | {name: rescale_filters(start.state[name], **scales) for name in ("tail.weight", "tail.bias")}

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed: those between one convolution and the next."""
        names = ("head", *(f"body.{number}" for number in range(len(self.body))), "tail")
        return tuple(ChannelGroup((before,), (after,)) for before, after in pairwise(names))

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it: one for each 3x3 convolution."""
        return len(self.config.widths)

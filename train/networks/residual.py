"""What residual networks that enlarge inside share: the order of their channel widths, and which channels live and go together.

A head, blocks of two convolutions added to one stream, a convolution that ends the stream, sub-pixel convolutions, a tail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from sr_deploy.errors import InputError
from sr_deploy.train.networks.groups import ChannelGroup

MOST_WIDTH, MOST_BLOCKS = 4096, 1024

Factors = tuple[int, ...]
"""The factor of each PixelShuffle."""


def uniform_widths(blocks: int, features: int, factors: Factors, colors: int) -> tuple[int, ...]:
    """Return the output channels of each convolution, in order, of a network with ``features`` everywhere."""
    return (features, *(features, features) * blocks, features, *(features * factor**2 for factor in factors), colors)


def blocks_of(widths: tuple[int, ...], factors: Factors) -> int:
    """Return the number of residual blocks."""
    return (len(widths) - 3 - len(factors)) // 2


def check_widths(name: str, widths: tuple[int, ...], factors: Factors, colors: int, *, least_blocks: int = 1) -> None:
    """Check that the widths are those of such a network.

    Raises:
        InputError: they are not.
    """
    blocks = blocks_of(widths, factors)
    if colors not in (1, 3):
        raise InputError(f"{name}: {colors} colours; choose 1 (luma) or 3 (RGB)")
    if not least_blocks <= blocks <= MOST_BLOCKS or len(widths) != 2 * blocks + 3 + len(factors):
        raise InputError(
            f"{name}: {len(widths)} widths do not fit; give 3 + 2 a block + {len(factors)} for the upsampler, "
            f"with at least {least_blocks} block(s)"
        )
    if min(widths) < 1 or max(widths) > MOST_WIDTH or widths[-1] != colors:
        raise InputError(f"{name}: widths {widths} do not fit; all must be 1 to {MOST_WIDTH}, the last {colors}")
    if len({widths[0], *widths[2 : 2 * blocks + 1 : 2], widths[2 * blocks + 1]}) != 1:
        raise InputError(f"{name}: widths {widths} do not fit; what is added to one stream must have one width")
    for width, factor in zip(widths[-1 - len(factors) : -1], factors, strict=True):
        if width % factor**2:
            raise InputError(f"{name}: {width} channels before PixelShuffle({factor}) are no multiple of {factor**2}; use one")


def check_res_scale(name: str, value: float) -> None:
    """Check the factor by which a block's residual is scaled.

    Raises:
        InputError: it is no number above 0 and up to 1.
    """
    if not 0.0 < value <= 1.0:
        raise InputError(f"{name}: residual scaling {value} is not in (0, 1]; 0.1 and 1 are usual")


def halo_of(before: int, factors: Factors, tail: int) -> int:
    """Return how many input pixels around an output pixel influence it.

    Args:
        before: the reach of everything in front of the upsampler.
        factors: its factors; each 3x3 convolution in it reaches one pixel of its own input.
        tail: the reach of what follows it, in output pixels.
    """
    reach, factor = Fraction(before), 1
    for step in factors:
        reach += Fraction(1, factor)
        factor *= step
    return math.ceil(reach + Fraction(tail, factor))


def residual_groups(blocks: int, factors: Factors) -> tuple[ChannelGroup, ...]:
    """Return the channels that can be removed: inside each block, the stream they share, and those of the upsampler."""
    return branched_groups([f"body.{i}" for i in range(blocks)], {"up": factors})


def branched_groups(blocks: Sequence[str], upsamplers: Mapping[str, Factors]) -> tuple[ChannelGroup, ...]:
    """Return the same where there may be several upsamplers.

    Args:
        blocks: module path of each residual block; all add to the stream that ``head`` begins and ``body_end`` ends.
        upsamplers: module path of each upsampler and its factors; all are read by ``tail``, so their last convolutions
            make the same channels.
    """
    inner = [ChannelGroup((f"{block}.conv1",), (f"{block}.conv2",)) for block in blocks]
    stream = ChannelGroup(
        ("head", *(f"{block}.conv2" for block in blocks), "body_end"),
        (*(f"{block}.conv1" for block in blocks), "body_end", *(f"{name}.0" for name in upsamplers)),
    )
    between = [
        ChannelGroup((f"{name}.{n}",), (f"{name}.{n + 1}",), block=factor**2)
        for name, factors in upsamplers.items()
        for n, factor in enumerate(factors[:-1])
    ]
    last = ChannelGroup(
        tuple(f"{name}.{len(factors) - 1}" for name, factors in upsamplers.items()),
        ("tail",),
        block=tuple(factors[-1] ** 2 for factors in upsamplers.values()),
    )
    return (*inner, stream, *between, last)

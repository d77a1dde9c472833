"""What residual networks that enlarge inside share: the order of their channel widths, and which channels live and go together.

A head, blocks of two convolutions added to one stream, a convolution that ends the stream, sub-pixel convolutions, a tail.
"""

from __future__ import annotations

from sr_deploy.errors import InputError
from sr_deploy.train.groups import ChannelGroup

MOST_WIDTH, MOST_BLOCKS = 4096, 1024

Factors = tuple[int, ...]
"""The factor of each PixelShuffle."""


def uniform_widths(blocks: int, features: int, factors: Factors, colors: int) -> tuple[int, ...]:
    """Return the output channels of each convolution, in order, of a network with ``features`` everywhere."""
    return (features, *(features, features) * blocks, features, *(features * factor**2 for factor in factors), colors)


def blocks_of(widths: tuple[int, ...], factors: Factors) -> int:
    """Return the number of residual blocks."""
    return (len(widths) - 3 - len(factors)) // 2


def check_widths(name: str, widths: tuple[int, ...], factors: Factors, colors: int) -> None:
    """Check that the widths are those of such a network.

    Raises:
        InputError: they are not.
    """
    blocks = blocks_of(widths, factors)
    if colors not in (1, 3):
        raise InputError(f"{name}: {colors} colours; 1 (luma) or 3 (RGB)")
    if not 1 <= blocks <= MOST_BLOCKS or len(widths) != 2 * blocks + 3 + len(factors):
        raise InputError(f"{name}: {len(widths)} widths do not fit; give 3 + 2 a block + {len(factors)} for the upsampler")
    if min(widths) < 1 or max(widths) > MOST_WIDTH or widths[-1] != colors:
        raise InputError(f"{name}: widths {widths} do not fit; all must be 1 to {MOST_WIDTH}, the last {colors}")
    if len({widths[0], *widths[2 : 2 * blocks + 1 : 2], widths[2 * blocks + 1]}) != 1:
        raise InputError(f"{name}: widths {widths} do not fit; what is added to one stream must have one width")
    for width, factor in zip(widths[-1 - len(factors) : -1], factors, strict=True):
        if width % factor**2:
            raise InputError(f"{name}: {width} channels before PixelShuffle({factor}) are no multiple of {factor**2}; use one")


def residual_groups(blocks: int, factors: Factors) -> tuple[ChannelGroup, ...]:
    """Return the channels that can be removed: inside each block, the stream they share, and those of the upsampler."""
    inner = [ChannelGroup((f"body.{i}.conv1",), (f"body.{i}.conv2",)) for i in range(blocks)]
    ups = [f"up.{i}" for i in range(len(factors))]
    stream = ChannelGroup(
        ("head", *(f"body.{i}.conv2" for i in range(blocks)), "body_end"),
        (*(f"body.{i}.conv1" for i in range(blocks)), "body_end", ups[0]),
    )
    shuffled = [
        ChannelGroup((name,), (reader,), block=factor**2)
        for name, reader, factor in zip(ups, [*ups[1:], "tail"], factors, strict=True)
    ]
    return (*inner, stream, *shuffled)

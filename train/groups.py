"""What a network says of its channels, so that pruning can remove them without knowing the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that exist or vanish together: outputs of every producer, inputs of every consumer."""

    producers: tuple[str, ...]  # module paths of convolutions whose output channels these are
    consumers: tuple[str, ...]  # module paths of convolutions that read them
    block: int = 1  # outputs that go together: r * r in front of PixelShuffle(r), which makes one channel of them

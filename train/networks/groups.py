"""What a network says of its channels, so that pruning can remove them without knowing the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that exist or vanish together: outputs of every producer, inputs of every consumer.

    What holds a value for each of them on the way (PReLU, a norm, a scale) is found by pruning itself.
    """

    producers: tuple[str, ...]  # module paths of convolutions whose output channels these are
    consumers: tuple[str, ...]  # module paths of convolutions that read them
    # Outputs that go together: r * r in front of PixelShuffle(r), which makes one channel of them; a tuple: of each producer.
    block: int | tuple[int, ...] = 1

    @property
    def blocks(self) -> dict[str, int]:
        """How many outputs of each producer make one channel."""
        sizes = (self.block,) * len(self.producers) if isinstance(self.block, int) else self.block
        return dict(zip(self.producers, sizes, strict=True))

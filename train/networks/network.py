"""What every network is, beside a PyTorch module: what pruning, export and training ask of it without knowing which one it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.notes import NOTES
from sr_deploy.train.networks.groups import ChannelGroup

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}  # the factor of each PixelShuffle, by scale

State = dict[str, Tensor]
Config = Mapping[str, float]
"""What the widths of an architecture do not tell; what is left out is the paper's.

``scale`` (MDSR: ``x2``, ``x3``, ``x4``, each 0 or 1), ``colors``, ``res_scale``; of a plain network ``prelu``, ``residual``,
``clip``, each 0 or 1."""


@dataclass(frozen=True)
class Start:
    """A checkpoint that another network begins with."""

    source: str  # its file
    arch: str
    config: Config
    state: State


class Network(nn.Module):
    """A super-resolution network. A subclass is named in the registry, and has its convolutions in the order they run."""

    upscale: Upscale  # where the picture is enlarged

    def __init__(self, config: DataclassInstance) -> None:
        """Take what the widths do not tell from ``config``, a dataclass with a field ``widths``."""
        super().__init__()
        self.facts: dict[str, float] = {name: value for name, value in asdict(config).items() if name != "widths"}

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels that can be removed, by what goes together."""
        raise NotImplementedError

    def halo(self) -> int:
        """Return how many input pixels around an output pixel influence it."""
        raise NotImplementedError

    def folded(self) -> Network:
        """Return the network in the form that is pruned and exported: batch normalisation in the convolutions before it."""
        return self

    def at_scale(self, scale: int) -> Network:
        """Return what runs for one scale, with this network's weights; only one that has branches is another then.

        Raises:
            InputError: it has branches, and none for the scale.
        """
        return self

    def at_each_scale(self) -> tuple[Network, ...]:
        """Return the networks that run on their own: one for each scale where there are branches, else this one."""
        return (self,)

    def served(self, scales: Sequence[int]) -> tuple[int, ...]:
        """Return those of ``scales`` that it can serve."""
        return tuple(scales)

    def fixed_inputs(self) -> dict[str, object] | None:
        """Return the arguments beside the picture that tracing holds fixed; ``None``: there are none."""
        return None

    def state_from(self, start: Start) -> State:
        """Return the tensors that this network may begin with; those that would make other sub-pixels are noted and left out.

        Raises:
            InputError: the other network scales its residuals otherwise, so it would compute something else.
        """
        theirs, ours = float(start.config.get("res_scale", 1.0)), self.facts.get("res_scale")
        if ours is not None and theirs != ours:
            raise InputError(
                f"--init-from {start.source}: scales its residuals by {theirs:g}, this network by {ours:g}; "
                f"give --res-scale {theirs:g}"
            )
        state = dict(start.state)
        for number in scrambled(start.config.get("scale"), self.facts.get("scale")):
            for name in [name for name in state if name.startswith(f"up.{number}.")]:
                NOTES.info(f"{name}: of {start.source}, makes other sub-pixels, not used")
                del state[name]
        return state

    def invents_norms(self, start: Start) -> bool:
        """Return whether it begins with norms that ``start`` does not have: their statistics are to be taken from data."""
        return False


def scrambled(theirs: float | None, ours: float | None) -> list[int]:
    """Return the numbers of the sub-pixel convolutions that two scales do not share: r * r filters make another pattern."""
    if theirs is None or ours is None:
        return []
    pairs = zip(STEPS.get(int(theirs), ()), STEPS.get(int(ours), ()), strict=False)
    return [number for number, (a, b) in enumerate(pairs) if a != b]

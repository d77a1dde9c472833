"""What the recognisers of foreign checkpoints share: a state, what was found in it, and taking its tensors one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sr_deploy.errors import InputError
from sr_deploy.train.networks.network import Config, Network
from sr_deploy.train.networks.registry import build
from sr_deploy.train.networks.residual import MOST_BLOCKS

State = Mapping[str, Tensor]
SCALES: dict[tuple[int, ...], int] = {(2,): 2, (3,): 3, (2, 2): 4, (2, 2, 2): 8}  # by the factor of each PixelShuffle


@dataclass(frozen=True)
class Found:
    """A network with the weights of a foreign checkpoint, and what its card says of things that the file does not hold."""

    network: Network
    facts: Mapping[str, str] = field(default_factory=dict)


def matches(state: State, every: re.Pattern[str], some: re.Pattern[str]) -> bool:
    """Return whether all names of a state are of a family (``every``) and one is of it alone (``some``).

    A tensor that is missing does not hide the family, so that it can be named; one that is too many does: another network.
    """
    return all(map(every.fullmatch, state)) and any(map(some.fullmatch, state))


@dataclass(frozen=True)
class Foreign:
    """A state whose names are those of a family."""

    family: str
    state: State
    path: Path

    def problem(self, what: str) -> InputError:
        """Return the error that says what is wrong with the file."""
        return InputError(f"{self.path}: looks like {self.family}, but {what}")

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as float32.

        Raises:
            InputError: it is missing, or holds something that is no number.
        """
        if name not in self.state:
            raise self.problem(f"{name} is missing; the file is damaged, or of another version of that repository")
        found = self.state[name].float()
        if not bool(torch.isfinite(found).all()):
            raise self.problem(f"{name} holds NaN or infinity; the file is damaged")
        return found

    def sized(self, name: str, shape: Iterable[int]) -> Tensor:
        """Return a tensor of a known shape as float32.

        Raises:
            InputError: it is missing or has another shape.
        """
        found, shape = self.tensor(name), tuple(shape)
        if found.shape != shape:
            raise self.problem(f"{name} is {_times(found.shape)}, {_times(shape)} is needed; the file is damaged")
        return found

    def values(self, network: Network, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Return a new state for ``network``: by our name the tensor of their name, for what is not named zeros.

        Raises:
            InputError: one is missing or has another shape.
        """
        own = network.state_dict()
        return {
            ours: self.sized(names[ours], like.shape).clone() if ours in names else torch.zeros_like(like)
            for ours, like in own.items()
        }

    def build(self, arch: str, widths: tuple[int, ...], config: Config) -> Network:
        """Return a fresh network.

        Raises:
            InputError: no such network is served, as one that enlarges by 16.
        """
        try:
            return build(arch, widths, config)
        except InputError as err:
            raise self.problem(str(err)) from err

    def highest(self, pattern: str) -> int:
        """Return the highest number that ``pattern`` finds in its group 1, or -1.

        Raises:
            InputError: it is higher than networks have parts; counting up to it could take all memory.
        """
        found = [match[1] for match in map(re.compile(pattern).fullmatch, self.state) if match]
        for number in found:
            if len(number) > len(str(MOST_BLOCKS)):
                raise self.problem(f"a name in it holds the number {number[:20]}; {MOST_BLOCKS} blocks are the most")
        return max(map(int, found), default=-1)

    def features(self, pattern: str) -> int:
        """Return the most common number of filters of the tensors that ``pattern`` names: one that is damaged is outvoted."""
        compiled = re.compile(pattern)
        counts = Counter(len(value) for name, value in self.state.items() if value.dim() and compiled.fullmatch(name))
        if not counts:
            raise self.problem("no residual block is whole; the file is damaged")
        return counts.most_common(1)[0][0]

    def scale(self, convolutions: Iterable[str], features: int) -> int:
        """Return the scale that the convolutions before each PixelShuffle make together.

        Raises:
            InputError: one is missing, or no such scale is known.
        """
        factors = tuple(3 if self.tensor(name).shape[:1] == (9 * features,) else 2 for name in convolutions)
        if factors not in SCALES:
            raise self.problem(f"its upsampler enlarges by {factors or 'nothing'}; known: {', '.join(map(str, SCALES))}")
        return SCALES[factors]

    def colors(self, first: str) -> int:
        """Return the number of channels that the first convolution reads."""
        weight = self.tensor(first)
        if weight.dim() != 4:
            raise self.problem(f"{first} is {_times(weight.shape)}, four dimensions are needed; the file is damaged")
        return weight.shape[1]


def both(ours: str, theirs: str) -> dict[str, str]:
    """Return the names of a convolution's weight and bias, ours and theirs."""
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def normalisation(ours: str, theirs: str, *, running: bool = True) -> dict[str, str]:
    """Return the names of a normalisation's tensors, ours and theirs; without running statistics for one that keeps none."""
    parts = ("weight", "bias", "running_mean", "running_var") if running else ("weight", "bias")
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in parts}


def _times(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"

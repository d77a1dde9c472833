"""Where training stands, reported so that it costs nothing until somebody looks.

Losses stay on the device: reading one waits for all that was queued before it, which a GPU's loop must not do at every
step. A :class:`Meter` sums them up there, and a :class:`Losses` is read when it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

Report = Callable[["Status"], None]
FORGET = 0.98  # of a running mean, at each step


class Losses(Mapping[str, float]):
    """Losses by name, read from the device at the first look; the first one is the loss of the network that is trained."""

    def __init__(self, names: Sequence[str], values: Tensor) -> None:
        """``values`` is (n,) and never changed afterwards."""
        self._names, self._values = tuple(names), values

    @cached_property
    def _read(self) -> dict[str, float]:
        return dict(zip(self._names, self._values.tolist(), strict=True))

    def __getitem__(self, name: str) -> float:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Status:
    """Where training stands; given to the reporter after every step and every validation."""

    step: int
    fraction: float  # of the whole run, 0 to 1
    losses: Mapping[str, float]  # running means by name
    lr: float
    images_per_s: float
    seconds_left: float
    psnr_db: dict[int, float] | None = None  # by scale, after a validation


@dataclass(frozen=True)
class Trouble:
    """The first step that gave something that is no number."""

    step: int
    what: str


def silent(status: Status) -> None:
    """Report nothing."""


class Meter:
    """Running means of losses, and the first step at which one of them, or a gradient, was no number."""

    def __init__(self, means: Mapping[str, float] | None = None, device: torch.device | None = None) -> None:
        means = means or {}
        self._names = tuple(means)
        self._means = torch.tensor(list(means.values()), dtype=torch.float64, device=device)
        self._bad: Tensor | None = None  # (1 + n,) of the first bad step: its number and losses; -1 while there is none

    def add(self, step: int, losses: Mapping[str, Tensor], finite: Tensor) -> None:
        """Take in what ``step`` gave, waiting for nothing: the same losses every step, and whether its gradients were finite.

        ``losses`` are float64 (), ``finite`` is bool ().
        """
        values = torch.stack(list(losses.values()))
        record = torch.cat([torch.full_like(values[:1], step), values])
        if self._bad is None:
            if self._names != tuple(losses):  # the first step of a run, or of another kind of training
                self._names, self._means = tuple(losses), values
            self._bad = torch.full_like(record, -1.0)
        if self._means is not values:
            self._means = FORGET * self._means + (1.0 - FORGET) * values
        fine = finite & values.isfinite().all()
        self._bad = torch.where(fine | (self._bad[0] >= 0.0), self._bad, record)

    def losses(self) -> Losses:
        """Return the running means so far; later steps do not change what is returned."""
        return Losses(self._names, self._means)

    def trouble(self) -> Trouble | None:
        """Return the first bad step, or None; waits for the device."""
        step, *values = [-1.0] if self._bad is None else self._bad.tolist()
        if step < 0:
            return None
        for name, value in zip(self._names, values, strict=True):
            if not math.isfinite(value):
                return Trouble(int(step), f"the {label(name)} became {value}")
        return Trouble(int(step), "the gradients became infinite or no number")


def label(name: str) -> str:
    """Return how a loss is called in a sentence."""
    return name if name == "loss" else f"{name} loss"


def write_scalars(writer: SummaryWriter, status: Status) -> None:
    """Write one status to TensorBoard."""
    for name, value in (("lr", status.lr), ("images_per_s", status.images_per_s)):
        writer.add_scalar(name, value, status.step)
    for name, value in status.losses.items():
        writer.add_scalar(name if name == "loss" else f"loss/{name}", value, status.step)
    for scale, value in (status.psnr_db or {}).items():
        writer.add_scalar(f"psnr_db/x{scale}", value, status.step)

"""One optimizer step: what a batch does to the weights, apart from where batches come from and where weights go.

The loop knows only :class:`Stepper`; one that alternates between a generator and a discriminator is another class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from sr_deploy.train.loop.optimizers import clip_, make_optimizer
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.losses.content import Content

MOST_SKIPPED = 40  # steps in a row: the scale of fp16's gradients was halved as often, from 2 ** 16 to 2 ** -24


class MicroBatch(NamedTuple):
    """What goes through the network at once, on its device: degraded and original patches, float32 (n, c, h, w)."""

    degraded: Tensor
    original: Tensor
    scale: int | None = None  # of all of them, where the network must know

    def through(self, network: nn.Module) -> Tensor:
        """Return what ``network`` makes of the degraded patches."""
        result: Tensor = network(self.degraded) if self.scale is None else network(self.degraded, self.scale)
        return result


@dataclass(frozen=True)
class Outcome:
    """What a step gave: tensors on the device, for nobody to wait for."""

    losses: dict[str, Tensor]  # () each, averaged over this process's micro-batches; the first is the trained network's
    finite: Tensor  # bool (): False where a gradient was infinite or no number, so that the weights are lost


def means_of(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each loss over micro-batches, their weighted sum first; the terms only where there are several."""
    names = ("loss", *(name for name in parts[0] if name != "loss"))
    kept = names if len(names) > 2 else names[:1]
    return {name: torch.stack([part[name] for part in parts]).mean() for name in kept}


class Stepper(Protocol):
    """Takes optimizer steps and owns what they change.

    ``modules`` and ``optimizers`` are what a training state holds, by the name it has there, no name twice;
    ``modules["net"]`` is the network that becomes the checkpoint. ``numbers`` are what else must be equal for a resumed run to
    be the same to the bit.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]

    def step(self, batches: Sequence[MicroBatch], lr: float) -> Outcome: ...

    def numbers(self) -> dict[str, float]: ...

    def restore_(self, numbers: Mapping[str, float]) -> None: ...


class MakeStepper(Protocol):
    """Builds a stepper; a function or class of a module, as processes are sent it by name."""

    def __call__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, *, compiled: bool) -> Stepper: ...


class PixelStepper:
    """Follows the gradient of one loss between the network's picture and the original."""

    def __init__(
        self, fabric: Fabric, network: nn.Module, recipe: Recipe, *, compiled: bool = False, content: Content | None = None
    ) -> None:
        self.fabric, self.recipe, self.network = fabric, recipe, network
        network.to(fabric.device)  # first: an optimizer is made for the device of its weights
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(network, recipe)
        forward = cast(nn.Module, torch.compile(network)) if compiled else network
        self.model, self.wrapped = fabric.setup(forward, self.optimizer)
        self.modules: Mapping[str, nn.Module] = {"net": network}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"opt": self.optimizer}
        self.objective = (content or Content("pixel")).objective(recipe.loss).to(fabric.device)
        self.scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)  # fp16 has one
        self.skipped = torch.zeros((), device=fabric.device)

    def losses_of(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Return each term and, as ``loss``, what is minimised: () each."""
        found: dict[str, Tensor] = self.objective(batch.through(self.model), batch.original)
        return found

    def step(self, batches: Sequence[MicroBatch], lr: float) -> Outcome:
        """Average the gradients over ``batches`` and over all processes, clip them, and move the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.wrapped.zero_grad()
        parts: list[dict[str, Tensor]] = []
        for number, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self.model, enabled=number < len(batches)):  # processes meet in the last one
                with self.fabric.autocast():
                    found = self.losses_of(batch)
                self.fabric.backward(found["loss"] / len(batches) if len(batches) > 1 else found["loss"])
            parts.append({name: value.detach() for name, value in found.items()})
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = clip_(self.network, self.recipe, lr)
        self.wrapped.step()
        return Outcome(means_of(parts), self._finite(norm))

    def _finite(self, norm: Tensor) -> Tensor:
        if self.scaler is None:
            return norm.isfinite()
        # The scaler leaves such a step out and halves its scale: no harm, unless that never ends.
        self.skipped = torch.where(norm.isfinite(), 0.0, self.skipped + 1.0)
        return self.skipped < MOST_SKIPPED

    def numbers(self) -> dict[str, float]:
        """Return the state of the gradient scaler; nothing without one."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def restore_(self, numbers: Mapping[str, float]) -> None:
        """Take back what ``numbers`` returned."""
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(numbers))

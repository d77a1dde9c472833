"""Fine-tuning with the dense network as teacher: its output, its features, or both, beside the originals.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Romero et al., "FitNets", ICLR 2015.

A pruned network's channels *are* channels of the dense one: those that the masks kept, in their order. So what a convolution of
the pruned network reads is compared with the same channels of what the dense network's convolution of that name reads, and no
layer in between has to be trained. That is also right where channels are read behind a PixelShuffle or an activation.

The terms are mixed by a weight ``w``: ``(1 - w) * loss(result, original) + w * by_teacher``. Against its output the latter
is the same loss; of features it is the mean over the layers of their squared error times a fixed unit; of both it is the mean.
A layer's unit is the teacher's own loss over the mean square of its features, measured once (``units_of``), so that one weight
serves losses and layers of any size. All terms are means over patches: how a batch is shared out changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from sr_deploy.compress.teaching.features import Seen, reading
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MicroBatch, PixelStepper
from sr_deploy.train.losses.content import Content
from sr_deploy.train.networks.network import Network

What = Literal["none", "output", "features", "both"]


@dataclass(frozen=True)
class Distilling:
    """What builds the step of a run with a teacher; every process of it is sent this by value."""

    teacher: Network
    what: What = "output"
    weight: float = 0.5  # of the teacher; the rest is that of the originals
    content: Content = field(default_factory=lambda: Content("pixel"))
    kept: Mapping[str, Tensor] = field(default_factory=dict)  # layer -> int64 (k,): teacher's channels that it still reads
    units: Mapping[str, float] = field(default_factory=dict)  # layer -> what its squared error is multiplied by

    def __call__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, *, compiled: bool) -> TaughtStepper:
        """Return the step."""
        return TaughtStepper(fabric, network, recipe, self, compiled=compiled)


class TaughtStepper(PixelStepper):
    """Follows the gradient of the loss against the original, mixed with what a fixed teacher says of the same patches."""

    def __init__(
        self, fabric: Fabric, network: nn.Module, recipe: Recipe, options: Distilling, *, compiled: bool = False
    ) -> None:
        super().__init__(fabric, network, recipe, compiled=compiled, content=options.content)
        self.options = options
        teacher: Network = copy.deepcopy(options.teacher).requires_grad_(False).eval()
        self.teacher = teacher.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kept = {name: channels.to(fabric.device) for name, channels in options.kept.items()}

    def losses_of(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Return the terms against the original, those of the teacher (``output``, ``features``), and all mixed as ``loss``."""
        layers = tuple(self.kept) if self.options.what in ("features", "both") else ()
        with ExitStack() as stack:
            ours, theirs = (stack.enter_context(reading(network, layers)) for network in (self.network, self.teacher))
            result = batch.through(self.model)
            with torch.no_grad():
                wanted = batch.through(self.teacher)
        found: dict[str, Tensor] = self.objective(result, batch.original)
        by_teacher: dict[str, Tensor] = {}
        if self.options.what in ("output", "both"):
            by_teacher["output"] = self.objective(result, wanted.to(result.dtype))["loss"]
        if self.options.what in ("features", "both"):
            by_teacher["features"] = feature_error(ours, theirs, self.kept, self.options.units)
        weight = self.options.weight
        mixed = (1.0 - weight) * found["loss"] + weight * torch.stack(list(by_teacher.values())).mean()
        return {**found, **by_teacher, "loss": mixed}


def feature_error(ours: Seen, theirs: Seen, kept: Mapping[str, Tensor], units: Mapping[str, float]) -> Tensor:
    """Return the mean over the layers of the squared error of the channels that were kept, in the layers' units: ().

    Args:
        ours: what the layers of the pruned network read, by layer: (n, k, h, w).
        theirs: what those of the teacher read, of all its channels: (n, c, h, w).
        kept: which of the teacher's channels the pruned network has, in their order: int64 (k,).
        units: what each layer's mean squared error is multiplied by.
    """
    errors = [
        units[name] * (ours[name].float() - theirs[name].float()[:, channels]).square().mean() for name, channels in kept.items()
    ]
    return torch.stack(errors).mean()


def units_of(
    teacher: Network, kept: Mapping[str, Tensor], batches: Sequence[MicroBatch], objective: nn.Module
) -> dict[str, float]:
    """Return the unit of every layer: the teacher's loss against the originals over the mean square of its kept features.

    A layer of which nothing is left but zeros has the unit 0.
    """
    loss, squares = 0.0, dict.fromkeys(kept, 0.0)
    with torch.no_grad():
        for batch in batches:
            with reading(teacher, tuple(kept)) as seen:
                result = batch.through(teacher)
            loss += float(objective(result, batch.original)["loss"]) / len(batches)
            for name, channels in kept.items():
                squares[name] += float(seen[name][:, channels].square().mean()) / len(batches)
    return {name: loss / square if square else 0.0 for name, square in squares.items()}

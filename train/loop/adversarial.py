"""SRGAN's training step: Ledig et al., CVPR 2017, sections 2.1.1 and 2.2; the discriminator moves first, then the generator.

The generator's adversarial loss has the non-saturating form, -log D(G(x)) (Goodfellow et al., NIPS 2014, section 3), or that of
least squares (Mao et al., ICCV 2017). Both networks have an optimizer of the same recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.train.loop.optimizers import clip_, make_optimizer
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MicroBatch, Outcome, means_of
from sr_deploy.train.losses.content import Content
from sr_deploy.train.losses.expression import ADVERSARIAL, weight_of
from sr_deploy.train.networks.discriminator import Discriminator

GanLoss = Literal["bce", "lsgan"]


def fooling_loss(fake: Tensor, kind: GanLoss) -> Tensor:
    """Return the generator's loss from what the discriminator says of its results (n, 1): small where they pass for originals."""
    return nn.functional.softplus(-fake).mean() if kind == "bce" else (fake - 1.0).square().mean()


def telling_loss(judged: Tensor, kind: GanLoss, *, real: bool) -> Tensor:
    """Return the discriminator's loss from what it says of originals (``real``) or results (n, 1): small where it is right."""
    if kind == "bce":
        return nn.functional.softplus(-judged if real else judged).mean()
    return 0.5 * (judged - float(real)).square().mean()


@dataclass(frozen=True)
class Adversarial:
    """What builds the step of a run; every process of it is sent this by value."""

    colors: int
    patch: int  # side of the originals, in pixels
    content: Content

    def __call__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, *, compiled: bool) -> Alternating:
        """Return the step.

        Raises:
            InputError: the recipe cannot be followed.
        """
        check_adversarial(recipe, compiled=compiled)
        return Alternating(fabric, network, recipe, self)


def check_adversarial(recipe: Recipe, *, compiled: bool) -> None:
    """Check that a recipe with a GAN term can be followed.

    Raises:
        InputError: it cannot.
    """
    if recipe.precision == "fp16" or compiled:
        what = "--precision fp16" if recipe.precision == "fp16" else "--compile"
        raise InputError(f"{what}: not with a GAN term in --loss; leave it out (bf16 is served)")


class Alternating:
    """One step of the discriminator, then one of the generator, on the same patches."""

    def __init__(self, fabric: Fabric, network: nn.Module, recipe: Recipe, options: Adversarial) -> None:
        self.fabric, self.recipe, self.network = fabric, recipe, network
        self.weight = weight_of(recipe.loss, ADVERSARIAL)
        self.kind: GanLoss = recipe.gan_loss or "bce"
        self.discriminator = Discriminator(colors=options.colors, patch=options.patch)
        for module in (network, self.discriminator):
            module.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = options.content.objective(recipe.loss).to(fabric.device)
        generating, telling = make_optimizer(network, recipe), make_optimizer(self.discriminator, recipe)
        self.model, self.wrapped = fabric.setup(network, generating)
        self.judge, self.judge_wrapped = fabric.setup(self.discriminator, telling)
        self.modules: Mapping[str, nn.Module] = {"net": network, "discriminator": self.discriminator}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"opt": generating, "discriminator_opt": telling}

    def step(self, batches: Sequence[MicroBatch], lr: float) -> Outcome:
        """Move both networks once; each one's gradients are averaged over ``batches`` and over all processes.

        What the generator computed for all of ``batches`` is held until the discriminator has moved.
        """
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr
        fakes, judged = self._move_discriminator(batches, lr)
        return self._move_generator(batches, fakes, judged, lr)

    def _move_discriminator(self, batches: Sequence[MicroBatch], lr: float) -> tuple[list[Tensor], Outcome]:
        """Return the generator's results, still tied to its weights, and what the discriminator's step gave."""
        self.judge_wrapped.zero_grad()
        fakes, losses = [], []
        for number, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self.model, enabled=number < len(batches)):
                fakes.append(batch.through(self.model))
            # Originals and results are judged apart, so that batch normalisation cannot tell them by their mixture.
            for patches, real in ((batch.original, True), (fakes[-1].detach(), False)):
                with self.fabric.no_backward_sync(self.judge, enabled=real or number < len(batches)):
                    loss = telling_loss(self.judge(patches), self.kind, real=real)
                    self.fabric.backward(loss / len(batches))
                losses.append(2.0 * loss.detach())  # of the mean below, half the entries
        norm = clip_(self.discriminator, self.recipe, lr)
        self.judge_wrapped.step()
        return fakes, Outcome({"discriminator": torch.stack(losses).mean()}, norm.isfinite())

    def _move_generator(self, batches: Sequence[MicroBatch], fakes: Sequence[Tensor], judged: Outcome, lr: float) -> Outcome:
        self.wrapped.zero_grad()
        self.discriminator.requires_grad_(False)  # it is asked, not moved: its own gradients are not computed
        parts: list[dict[str, Tensor]] = []
        for batch, fake in zip(batches, fakes, strict=True):
            with self.fabric.autocast():
                found = self.objective(fake, batch.original)
                found[ADVERSARIAL] = fooling_loss(self.discriminator(fake), self.kind)
            found["loss"] = found["loss"] + self.weight * found[ADVERSARIAL]
            parts.append(found)
        # At once: processes share gradients in the first backward pass behind the last forward pass.
        self.fabric.backward(torch.stack([part["loss"] for part in parts]).mean())
        self.discriminator.requires_grad_(True)
        norm = clip_(self.network, self.recipe, lr)
        self.wrapped.step()
        parts = [{name: value.detach() for name, value in part.items()} for part in parts]
        return Outcome({**means_of(parts), **judged.losses}, norm.isfinite() & judged.finite)

    def numbers(self) -> dict[str, float]:
        """Return nothing: the networks and their optimizers are all there is."""
        return {}

    def restore_(self, numbers: Mapping[str, float]) -> None:
        """Take back nothing."""

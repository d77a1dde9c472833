"""From options to the recipe of a run and the training step that its loss asks for."""

from __future__ import annotations

import argparse
from functools import partial

from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import DataConfig
from sr_deploy.train.loop.adversarial import Adversarial, check_adversarial
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MakeStepper, PixelStepper
from sr_deploy.train.losses.content import Content
from sr_deploy.train.losses.expression import ADVERSARIAL, weight_of
from sr_deploy.train.networks.discriminator import check_patch

CLIP_DEFAULTS = {"value": 3e-4, "norm": 0.4, "none": 1.0}


def stepper_for(recipe: Recipe, data: DataConfig, content: Content, *, compiled: bool) -> MakeStepper:
    """Return what builds the training step that a loss asks for.

    Raises:
        InputError: the patches do not fit the discriminator, or the recipe does not fit the loss.
    """
    if weight_of(recipe.loss, ADVERSARIAL) == 0.0:
        if recipe.gan_loss is not None:
            raise InputError(
                f"--gan-loss {recipe.gan_loss}: --loss {recipe.loss!r} has no GAN term; leave it out, or add 0.001*GAN"
            )
        return partial(PixelStepper, content=content)
    if data.one_scale:
        scales = " ".join(map(str, data.scales))
        raise InputError(f"--scale {scales}: the discriminator of --loss {recipe.loss!r} judges one size; name one scale")
    check_adversarial(recipe, compiled=compiled)
    check_patch(data.patch)
    return Adversarial(3 if data.colors == 3 else 1, data.patch, content)


def recipe_from(arguments: argparse.Namespace, content: Content, *, default_epochs: float) -> Recipe:
    """Return the recipe of the command line; ``default_epochs`` is the length when none is given."""
    open_ended = arguments.steps is None and arguments.minutes is None
    return Recipe(
        steps=arguments.steps,
        epochs=arguments.epochs or (default_epochs if open_ended else None),
        minutes=arguments.minutes,
        batch_size=arguments.batch_size,
        optimizer=arguments.optimizer,
        lr=arguments.lr,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        schedule=arguments.schedule,
        lr_step=arguments.lr_step,
        lr_half=arguments.lr_half,
        warmup=arguments.warmup,
        clip_mode=arguments.clip_mode,
        clip=arguments.clip or CLIP_DEFAULTS[arguments.clip_mode],
        loss=arguments.loss,
        gan_loss=arguments.gan_loss,
        content=content.name,
        seed=arguments.seed,
        precision=arguments.precision,
        accumulate=arguments.accumulate,
        ema=arguments.ema,
    )

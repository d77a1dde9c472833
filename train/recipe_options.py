"""From options to the recipe of a run and the training step that its loss asks for."""

from __future__ import annotations

from functools import partial

from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import DataConfig
from sr_deploy.train.loop.adversarial import Adversarial, check_adversarial
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MakeStepper, PixelStepper
from sr_deploy.train.losses.content import Content, Wish
from sr_deploy.train.losses.expression import ADVERSARIAL, weight_of
from sr_deploy.train.networks.discriminator import check_patch
from sr_deploy.train.options import LossOptions, RecipeOptions, Settings

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


def recipe_from(
    options: RecipeOptions, settings: Settings, content: Content, *, steps: int | None = None, epochs: float | None = None
) -> Recipe:
    """Return the recipe of ``options``, whose defaults are in ``settings``, with the loss that is left of theirs.

    Raises:
        InputError: it has no length, or a number is out of range.
    """
    return Recipe(
        steps=steps,
        epochs=epochs,
        minutes=options.minutes,
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        lr=settings.lr,
        momentum=options.momentum,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        lr_step=options.lr_step,
        lr_half=options.lr_half,
        warmup=settings.warmup,
        clip_mode=settings.clip_mode,
        clip=options.clip or CLIP_DEFAULTS[settings.clip_mode],
        loss=settings.loss,
        gan_loss=options.gan_loss,
        content=content.name,
        seed=options.seed,
        precision=options.precision,
        accumulate=options.accumulate,
        expand=settings.expand or None,
        ema=settings.ema,
    )


def wish_of(options: LossOptions) -> Wish:
    """Return what the options say of VGG terms."""
    return Wish(options.content, options.vgg, options.vgg_distance)

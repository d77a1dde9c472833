"""What ``sr-train`` does once its arguments are read."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.options import data_config, data_facts, validation_pictures
from sr_deploy.train.data.prepare import prepare_command
from sr_deploy.train.loop.adversarial import Adversarial, check_adversarial
from sr_deploy.train.loop.devices import check_devices
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Status, label
from sr_deploy.train.loop.stepper import MakeStepper, PixelStepper
from sr_deploy.train.loop.validation import load_validation
from sr_deploy.train.losses.content import Content, Wish, choose_content
from sr_deploy.train.losses.expression import ADVERSARIAL, weight_of
from sr_deploy.train.networks.discriminator import check_patch
from sr_deploy.train.start import begin_with_, fresh_network, served_card
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.srresnet_from_edsr import settle_norms_

SETTLE_BATCHES = 8  # of 16 patches, for the statistics of batch norms that a warm start made
CLIP_DEFAULTS = {"value": 3e-4, "norm": 0.4, "none": 1.0}


def train_command(arguments: argparse.Namespace) -> int:
    """Train as the command line asks and return the exit code."""
    if arguments.prepare is not None:
        return prepare_command(arguments, served_card(fresh_network(arguments), arguments.scale))
    output: Path = arguments.output
    check_output(output, overwrite=arguments.overwrite or arguments.resume)
    if arguments.resume and arguments.init_from is not None:
        raise InputError(f"--init-from {arguments.init_from}: a resumed run has its weights already; leave it or --resume out")
    check_device(arguments)
    check_log_dir(arguments.log_dir)
    arguments.loss, content = choose_content(arguments.loss, Wish(arguments.content, arguments.vgg, arguments.vgg_distance))
    recipe = replace(recipe_from(arguments, content, default_epochs=80.0), expand=arguments.expand or None)
    torch.manual_seed(recipe.seed)
    network = fresh_network(arguments)
    settle = arguments.init_from is not None and begin_with_(network, arguments.init_from)
    card = served_card(network, arguments.scale)
    config, validation = data_config(arguments, card), validation_pictures(arguments)
    if arguments.init_from is not None:
        card = card.with_changes(parent_digest=checkpoint.read_card(arguments.init_from).digest)
    elif arguments.resume and output.exists():
        card = card.with_changes(parent_digest=checkpoint.read_card(output).parent_digest)
    stepper = stepper_for(recipe, config, content, compiled=arguments.compile)
    data = PatchSource(config, workers=max(arguments.workers, 1), cache=arguments.cache)
    if settle and not arguments.resume:
        settle_norms_(network, (data.batch(size=16, seed=recipe.seed, step=step)[0] for step in range(SETTLE_BATCHES)))
    run = Run(
        recipe=recipe,
        data=data,
        card=card.with_changes(recipe=data_facts(config)),
        output=output,
        report=reporter(),
        validation=load_validation(validation, card.scales, card.color) if validation else (),
        stepper=stepper,
        device=arguments.device,
        devices=arguments.devices,
        compile=arguments.compile,
        workers=arguments.workers,
        save_minutes=arguments.save_minutes,
        log_dir=arguments.log_dir,
    )
    train(run, network, resume=arguments.resume)
    print(f"{output}: written; its training state is {run.state_path.name}")
    return 0


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


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check before any work that ``path`` may be written.

    Raises:
        InputError: it has another suffix, or exists and may not be replaced.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a checkpoint's name ends in .safetensors, this one in {path.suffix or 'nothing'}")
    if path.is_dir():
        raise InputError(f"{path}: a folder; choose another name")
    place = next((folder for folder in path.absolute().parents if folder.exists()), path)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{path}: {place} is no folder that may be written; choose another place, or check its permissions")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; add --overwrite to replace it, or choose another name")
    state = path.with_suffix(".train.safetensors")
    if state.exists() and not overwrite:
        raise InputError(
            f"{state}: the training state of an earlier run; add --resume to continue it, or --overwrite to replace it"
        )


def check_log_dir(path: Path | None) -> None:
    """Check before any work that ``--log-dir`` is a folder or can become one.

    Raises:
        InputError: it is a file.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise InputError(f"--log-dir {path}: a file, a folder is needed; choose another name")


def check_device(arguments: argparse.Namespace) -> None:
    """Apply ``--threads``, by default the cores shared by all processes, and check ``--device``, ``--devices``, ``--precision``.

    Raises:
        InputError: CUDA is asked for where there is none, or too few devices, or a precision that the device does not train in.
    """
    check_devices(arguments.device, arguments.precision, arguments.devices)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    elif arguments.devices > 1:
        torch.set_num_threads(max(torch.get_num_threads() // arguments.devices, 1))


def reporter(every_s: float = 30.0) -> Callable[[Status], None]:
    """Return a function that shows training: a live line on a terminal, a line now and then elsewhere."""
    live = sys.stderr.isatty()
    last = time.monotonic()

    def report(status: Status) -> None:
        nonlocal last
        now = time.monotonic()
        if status.psnr_db is None and now - last < (0.5 if live else every_s):
            return
        last = now
        text = describe(status)
        if status.psnr_db is not None or not live:
            print(("\r\x1b[K" if live else "") + text, file=sys.stderr, flush=True)
        else:
            print("\r\x1b[K" + text, end="", file=sys.stderr, flush=True)

    return report


def describe(status: Status) -> str:
    """Return one line about where training stands."""
    losses = " ".join(f"{label(name)} {value:.4g}" for name, value in status.losses.items())
    done = f"{100.0 * status.fraction:5.1f} % step {status.step} {losses} lr {status.lr:.2e}"
    if status.psnr_db is not None:
        return done + " PSNR " + " ".join(f"x{s} {v:.3f}" for s, v in status.psnr_db.items()) + " dB"
    return done + f" {status.images_per_s:.1f} images/s, {status.seconds_left / 60.0:.1f} min left"

"""What ``sr-train`` does once its options are known: a checkpoint from pictures, or a file of patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sr_deploy.card import ModelCard
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.data.options import data_config, data_facts, validation_pictures
from sr_deploy.train.data.prepare import PrepareResult, prepare_patches
from sr_deploy.train.loop import loop
from sr_deploy.train.loop.status import Report, Status, silent
from sr_deploy.train.loop.validation import load_validation
from sr_deploy.train.losses.content import choose_content
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.srresnet_from_edsr import settle_norms_
from sr_deploy.train.options import PrepareOptions, TrainOptions
from sr_deploy.train.preflight import check_device, check_log_dir, check_output
from sr_deploy.train.recipe_options import recipe_from, stepper_for, wish_of
from sr_deploy.train.start import begin_with_, fresh_network, served_card
from sr_deploy.train.weights import checkpoint

SETTLE_BATCHES = 8  # of 16 patches, for the statistics of batch norms that a warm start made


@dataclass(frozen=True)
class TrainResult:
    """What a run wrote, and what it reached."""

    checkpoint: Path
    state: Path  # a run is resumed from it
    card: ModelCard
    psnr_db: Mapping[int, float]  # by scale, of the last validation; empty without one
    history: tuple[Status, ...]  # of all validations, in their order


def train(options: TrainOptions, *, report: Report = silent, progress: OnStep | None = None) -> TrainResult:
    """Train a network, write its checkpoint and its training state, and return what was reached; nothing is printed.

    Args:
        options: everything about the run.
        report: called after every step and every validation.
        progress: called while pictures are read.

    Raises:
        InputError: options that do not fit each other, the pictures, or what is there already.
        MachineError: the loss is no longer a number, a device or a package is missing, the disk is full.
        KeyboardInterrupt: Ctrl-C or SIGTERM; checkpoint and state are saved before.
    """
    with progress_to(progress):
        run, network = begin_run(options, report)
        loop.train(run, network, resume=options.resume)
    return TrainResult(
        run.output,
        run.state_path,
        checkpoint.read_card(run.output),
        dict(run.history[-1].psnr_db or {}) if run.history else {},
        tuple(run.history),
    )


def begin_run(options: TrainOptions, report: Report) -> tuple[loop.Run, Network]:
    """Return the run and the network that it begins with, all options checked and all pictures read."""
    check_output(options.output, overwrite=options.overwrite or options.resume)
    check_device(options)
    check_log_dir(options.log_dir)
    loss, content = choose_content(options.settings.loss, wish_of(options))
    settings = replace(options.settings, loss=loss)
    recipe = recipe_from(options, settings, content, steps=options.steps, epochs=options.epochs or epochs_of(options))
    torch.manual_seed(recipe.seed)
    network = fresh_network(options)
    settle = options.init_from is not None and begin_with_(network, options.init_from)
    card = card_with_parent(served_card(network, options.scales), options)
    config, validation = data_config(options, card, options.scales), validation_pictures(options, options.val)
    stepper = stepper_for(recipe, config, content, compiled=options.compile)
    data = PatchSource(config, workers=max(options.workers, 1), cache=options.cache)
    if settle and not options.resume:
        settle_norms_(network, (data.batch(size=16, seed=recipe.seed, step=step)[0] for step in range(SETTLE_BATCHES)))
    run = loop.Run(
        recipe=recipe,
        data=data,
        card=card.with_changes(recipe=data_facts(config)),
        output=options.output,
        report=report,
        validation=load_validation(validation, card.scales, card.color) if validation else (),
        stepper=stepper,
        device=options.device,
        devices=options.devices,
        compile=options.compile,
        workers=options.workers,
        save_minutes=options.save_minutes,
        log_dir=options.log_dir,
    )
    return run, network


def epochs_of(options: TrainOptions) -> float | None:
    """Return the epochs of a run that none are given for: 80, unless it has another length."""
    return 80.0 if options.steps is None and options.minutes is None else None


def card_with_parent(card: ModelCard, options: TrainOptions) -> ModelCard:
    """Return the card with the digest of the checkpoint that the run begins with; a resumed run keeps the one it had."""
    if options.init_from is not None:
        return card.with_changes(parent_digest=checkpoint.read_card(options.init_from).digest)
    if options.resume and options.output.exists():
        return card.with_changes(parent_digest=checkpoint.read_card(options.output).parent_digest)
    return card


def prepare(options: PrepareOptions, *, progress: OnStep | None = None) -> PrepareResult:
    """Write the patches of pictures to an HDF5 file and return how many; nothing is printed.

    Raises:
        InputError: options that do not fit each other or the pictures, or the file exists.
        MachineError: h5py is not installed, or the disk has no room.
    """
    with progress_to(progress):
        return prepare_patches(options, served_card(fresh_network(options), options.scales))

"""What ``sr-train`` does once its arguments are read."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.data.options import data_config, data_facts, validation_pictures
from sr_deploy.train.data.prepare import prepare_command
from sr_deploy.train.loop.loop import Run, train
from sr_deploy.train.loop.validation import load_validation
from sr_deploy.train.losses.content import Wish, choose_content
from sr_deploy.train.preflight import check_device, check_log_dir, check_output
from sr_deploy.train.recipe_options import recipe_from, stepper_for
from sr_deploy.train.reporting import reporter
from sr_deploy.train.start import begin_with_, fresh_network, served_card
from sr_deploy.train.weights import checkpoint
from sr_deploy.train.weights.srresnet_from_edsr import settle_norms_

SETTLE_BATCHES = 8  # of 16 patches, for the statistics of batch norms that a warm start made


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

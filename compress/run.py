"""What ``sr-prune`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sr_deploy.card import ModelCard, Shape
from sr_deploy.compress.pruning.criterion import NAMES
from sr_deploy.compress.pruning.masks import ConfigList, Masks, filter_masks
from sr_deploy.compress.pruning.measured import Measured
from sr_deploy.compress.pruning.plan import Plan, Wanted, plan_of
from sr_deploy.compress.pruning.removal import check_equal, masked, without_filters
from sr_deploy.compress.pruning.rounds import round_facts, stage
from sr_deploy.compress.qat.awareness import Awareness, as_learned, awareness, begun, check_options
from sr_deploy.compress.report import report, row
from sr_deploy.compress.teaching.distill import Distilling
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.compress.teaching.options import check_recovery
from sr_deploy.compress.tuning import Tuning, finetune, finetune_data, loss_of, source_for, tuning_of
from sr_deploy.degrade import Planes
from sr_deploy.errors import InputError
from sr_deploy.files import check_reports, read_bytes
from sr_deploy.notes import NOTES
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop.validation import load_validation
from sr_deploy.train.losses.content import Content
from sr_deploy.train.networks.registry import at_each_scale, config_of, folded, widths_of
from sr_deploy.train.preflight import check_device, check_log_dir, check_output
from sr_deploy.train.weights import checkpoint

MOST_SIDE = 16384
PROBE_SIDE = 160  # pixels of what masked and smaller network are compared on


def prune_command(arguments: argparse.Namespace) -> int:
    """Prune as the command line asks and return the exit code."""
    check_output(arguments.output, overwrite=arguments.overwrite)
    if os.path.realpath(arguments.output) == os.path.realpath(arguments.checkpoint):
        raise InputError(f"{arguments.output}: is the network to prune itself; choose another name with -o")
    check_log_dir(arguments.log_dir)
    check_reports({"--json": arguments.json}, [arguments.checkpoint, arguments.output, arguments.config])
    check_device(arguments)
    check_length(arguments)
    check_recovery(arguments)
    network, card = checkpoint.load(arguments.checkpoint)
    network = folded(network)
    check_scales(arguments.scale, card)
    qat = awareness_of(arguments, network, card) if arguments.qat else None
    tuning = tuning_of(arguments, network, card) if arguments.finetune_steps else None
    shape = _shape(arguments.shape, card)
    given = read_config(arguments.config) if arguments.config else None
    pictures = load_validation(arguments.val, card.scales, card.color) if arguments.val else []
    measured = Measured(source_for(arguments, card, tuning), pictures, card, arguments.seed, arguments.criterion)
    wanted = Wanted(arguments.sparsity, arguments.target_macs, arguments.round_to, arguments.rounds)
    plan = Plan(given) if given is not None else plan_of(wanted, network, measured, shape)
    rows = [row("dense", network, shape, pictures, card)]
    parent = {f"parent.{name}": value for name, value in card.recipe.items()}
    facts = {**parent, "prune.criterion": NAMES[arguments.criterion], **plan.facts}
    small, left = network, Survivors(network)
    for number in range(1, plan.rounds + 1):
        config_list = plan.of_round(small, number)
        masks = filter_masks(small, config_list, backend=arguments.pruner, scores=measured.scores(small))
        small = removed(small, masks, probe(pictures, shape[1]))
        left.remove_(masks)
        rows.append(row(stage("pruned", number, plan.rounds), small, shape, pictures, card))
        facts |= round_facts(config_list, number, plan.rounds)
        pruned_card = card.with_changes(widths=widths_of(small), config=config_of(small), parent_digest=card.digest, recipe=facts)
        pruned_card = pruned_card.with_changes(thresholds={}, keep=())  # learned for other weights
        if tuning is not None:
            small = finetune(arguments, small, pruned_card, tuning.of_round(number, plan.rounds, left))
            rows.append(row(stage("fine-tuned", number, plan.rounds), small, shape, pictures, card))
            pruned_card = checkpoint.read_card(arguments.output)
        elif qat is None:
            checkpoint.save(arguments.output, small, pruned_card)
    if qat is not None:
        for name, rounded in quantization_aware(arguments, small, pruned_card, qat):
            quality = row(name, rounded, shape, pictures, card).psnr_db
            rows.append(replace(rows[-1], stage=name, psnr_db=quality))
    if plan.shown:
        print(plan.shown + "\n")
    report(rows, shape, arguments.json, scale=card.default_scale if len(at_each_scale(small)) > 1 else None, share=plan.share)
    print(f"{arguments.output}: written")
    return 0


def removed(network: nn.Module, masks: Masks, x: Tensor) -> nn.Module:
    """Return the smaller network of ``masks``, which computes on ``x`` what the masked one does.

    Raises:
        InputError: the masks do not fit the network.
        CheckError: the smaller network computes something else.
    """
    small = without_filters(network, masks)
    difference = check_equal(masked(network, masks), small, x)
    NOTES.info(f"removed filters: largest difference from the masked network {difference:.1e} (limit 1e-05)")
    return small


def awareness_of(arguments: argparse.Namespace, network: nn.Module, card: ModelCard) -> Awareness:
    """Return how the network learns to compute in int8: with the loss and the data of fine-tuning."""
    return awareness(arguments, network, card, loss=loss_of(arguments, card), data=finetune_data(arguments, card))


def quantization_aware(
    arguments: argparse.Namespace, network: nn.Module, card: ModelCard, plan: Awareness
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the fake-quantized network before and after its training, which writes the checkpoint."""
    source = PatchSource(plan.data, workers=max(arguments.workers, 1), cache=arguments.cache)
    rounded = begun(network, plan, source, arguments.device)
    yield "int8 before qat", rounded
    earlier = {f"finetune.{name}" if name.startswith("train.") else name: value for name, value in card.recipe.items()}
    stepper = Distilling(network, "output", plan.teacher_weight)
    tuning = Tuning(plan.recipe, plan.data, stepper, lambda: source, Content("pixel"), as_saved=as_learned)
    yield "int8 after qat", finetune(arguments, rounded, card.with_changes(recipe={**earlier, **plan.facts}), tuning)


def check_scales(scales: Sequence[int] | None, card: ModelCard) -> None:
    """Check ``--scale``.

    Raises:
        InputError: a scale that the network does not serve.
    """
    for scale in scales or ():
        if scale not in card.scales:
            raise InputError(f"--scale {scale}: the network serves {', '.join(map(str, card.scales))}; choose among them")


def check_length(arguments: argparse.Namespace) -> None:
    """Check the fine-tuning options against each other.

    Raises:
        InputError: steps without pictures, or a length that ``sr-prune`` does not take.
    """
    check_options(arguments)
    measures = arguments.target_macs is not None or arguments.criterion != "l1"
    if arguments.data and arguments.finetune_steps is None and not arguments.qat and not measures:
        raise InputError(
            f"--data {arguments.data[0]}: nothing would be trained on it; say how long with --finetune-steps N, or add --qat"
        )
    if arguments.finetune_steps and not arguments.data:
        raise InputError(f"--finetune-steps {arguments.finetune_steps} needs pictures; name a folder with --data")
    for name in ("steps", "epochs"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name} {getattr(arguments, name):g} belongs to sr-train; give --finetune-steps")


def read_config(path: Path) -> ConfigList:
    """Return the ``config_list`` in a JSON file.

    Raises:
        InputError: missing, not JSON, or not a list of objects.
    """
    try:
        value = json.loads(read_bytes(path, advice="name a JSON file with --config"))
    except (ValueError, RecursionError) as err:
        raise InputError(f'{path}: not JSON ({err}); it holds a list like [{{"sparsity": 0.5, "op_types": ["Conv2d"]}}]') from err
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f'{path}: not a config_list; it holds a list like [{{"sparsity": 0.5, "op_types": ["Conv2d"]}}]')
    return value


def probe(pictures: Sequence[Planes], channels: int) -> Tensor:
    """Return a part of the first picture as float32 (1, c, h, w) in [0, 1], or noise of ``channels`` where there is none."""
    if pictures:
        part = np.ascontiguousarray(pictures[0][..., :PROBE_SIDE, :PROBE_SIDE])
        return torch.from_numpy(part).reshape(1, channels, *part.shape[-2:]) / 255.0
    return torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))


def _shape(values: Sequence[int] | None, card: ModelCard) -> Shape:
    channels = 1 if card.color == "y" else 3
    n, c, h, w = values or (1, channels, 256, 256)
    if min(n, c, h, w) < 1 or max(n, c, h, w) > MOST_SIDE:
        raise InputError(f"--shape {n} {c} {h} {w}: every side must be 1 to {MOST_SIDE}")
    if c != channels:
        raise InputError(f"--shape {n} {c} {h} {w}: this network takes {channels} channel(s), as 1 {channels} 256 256")
    return n, c, h, w

"""What ``sr-prune`` does once its arguments are read."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
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
from sr_deploy.compress.pruning.rounds import recipe_of, round_facts, stage
from sr_deploy.compress.qat.awareness import Awareness, as_learned, awareness, begun, check_options
from sr_deploy.compress.teaching.distill import Distilling
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.compress.teaching.options import check_recovery
from sr_deploy.compress.teaching.teacher import Teaching, teaching_of
from sr_deploy.console import table
from sr_deploy.degrade import Planes
from sr_deploy.errors import InputError
from sr_deploy.files import check_reports, read_bytes, write_text
from sr_deploy.notes import NOTES
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.hdf5_file import is_hdf5
from sr_deploy.train.data.options import colors_of, data_facts, default_patch, hdf5_config, one_scale
from sr_deploy.train.loop.loop import AsSaved, Run, as_it_is, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MakeStepper
from sr_deploy.train.loop.validation import load_validation, validate
from sr_deploy.train.losses.content import RANDOM_VGG, Content, Kind, Wish, choose_content
from sr_deploy.train.losses.expression import ADVERSARIAL, FEATURE_TERMS, terms_of, weight_of
from sr_deploy.train.losses.vgg import Distance
from sr_deploy.train.networks.registry import at_each_scale, at_scale, config_of, folded, macs, weight_count, widths_of
from sr_deploy.train.run import check_device, check_log_dir, check_output, recipe_from, reporter, stepper_for
from sr_deploy.train.weights import checkpoint

MOST_SIDE = 16384
PROBE_SIDE = 160  # pixels of what masked and smaller network are compared on


@dataclass(frozen=True)
class Row:
    """One line of the before/after table."""

    stage: str
    weights: int
    macs: int
    psnr_db: dict[int, float]  # by scale; empty without --val


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


@dataclass(frozen=True)
class Tuning:
    """How the pruned network is trained, checked before anything is pruned."""

    recipe: Recipe
    data: DataConfig
    stepper: MakeStepper
    source: Callable[[], PatchSource]  # opened once
    content: Content
    teaching: Teaching | None = None
    as_saved: AsSaved = as_it_is

    def of_round(self, number: int, rounds: int, left: Survivors) -> Tuning:
        """Return how the network of one round is trained, which has the channels ``left`` of the dense one."""
        stepper = self.stepper
        if self.teaching is not None:
            stepper = self.teaching.stepper(self.recipe.loss, self.content, left, self.source)
        return replace(self, recipe=recipe_of(self.recipe, number, rounds), stepper=stepper)


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


def loss_of(arguments: argparse.Namespace, card: ModelCard) -> str:
    """Return the loss of the command line, or that of the dense network."""
    return arguments.loss or inherited(card, "train.loss") or ("mse" if card.upscale == "before" else "l1")


def tuning_of(arguments: argparse.Namespace, network: nn.Module, card: ModelCard) -> Tuning:
    """Return how the pruned network is trained: with the dense network's loss and data, unless told otherwise.

    A loss with a GAN term begins with a new discriminator.

    Raises:
        InputError: what is told and what is inherited do not fit.
        MachineError: VGG19's weights are needed and cannot be had.
    """
    arguments.steps = arguments.finetune_steps
    loss = loss_of(arguments, card)
    arguments.loss, content = choose_content(loss, inherited_wish(arguments, card, loss))
    if arguments.gan_loss is None and weight_of(arguments.loss, ADVERSARIAL):
        arguments.gan_loss = inherited(card, "train.gan_loss")
    recipe, data = recipe_from(arguments, content, default_epochs=1.0), finetune_data(arguments, card)
    if inherited(card, "data.lr") is not None:
        NOTES.warning("it was trained on low-resolution pictures of their own; it is tuned on bicubic ones")
    stepper = stepper_for(recipe, data, content, compiled=arguments.compile)
    teaching = teaching_of(arguments, network, card, loss=arguments.loss, data=data)
    return Tuning(recipe, data, stepper, source_of(arguments, data), content, teaching)


def source_of(arguments: argparse.Namespace, data: DataConfig) -> Callable[[], PatchSource]:
    """Return what opens the training data at its first call and returns the same at every other."""
    return cache(partial(PatchSource, data, workers=max(arguments.workers, 1), cache=arguments.cache))


def source_for(arguments: argparse.Namespace, card: ModelCard, tuning: Tuning | None) -> Callable[[], PatchSource] | None:
    """Return what opens the pictures of ``--data``, trained on or not; ``None``: there are none."""
    if tuning is not None:
        return tuning.source
    return source_of(arguments, finetune_data(arguments, card)) if arguments.data else None


def inherited_wish(arguments: argparse.Namespace, card: ModelCard, loss: str) -> Wish:
    """Return what content the feature terms of ``loss`` are to have: as told, else as the dense network's had."""
    told = inherited(card, "train.content") or ""
    if not any(name in FEATURE_TERMS for name, _ in terms_of(loss)):
        return Wish(arguments.content, arguments.vgg, arguments.vgg_distance)
    kind: Kind = arguments.content or ("random-vgg" if told.startswith(RANDOM_VGG) else "vgg")
    distance: Distance = arguments.vgg_distance or ("l1" if told.endswith(", l1") else "mse")
    return Wish(kind, arguments.vgg, distance)


def finetune(arguments: argparse.Namespace, network: nn.Module, card: ModelCard, tuning: Tuning) -> nn.Module:
    """Train the pruned network on the dense network's task and write the checkpoint."""
    taught = {} if tuning.teaching is None else tuning.teaching.facts
    run = Run(
        recipe=tuning.recipe,
        data=tuning.source(),
        card=card.with_changes(recipe={**card.recipe, **data_facts(tuning.data), **taught}),
        output=arguments.output,
        report=reporter(),
        stepper=tuning.stepper,
        as_saved=tuning.as_saved,
        keep_state=False,
        device=arguments.device,
        devices=arguments.devices,
        compile=arguments.compile,
        workers=arguments.workers,
        save_minutes=arguments.save_minutes,
        log_dir=arguments.log_dir,
    )
    tuned = train(run, network)
    return tuned.to("cpu")


def finetune_data(arguments: argparse.Namespace, card: ModelCard) -> DataConfig:
    """Return what is cut from the pictures: as for the dense network, unless told otherwise."""
    if any(map(is_hdf5, arguments.data)):
        return hdf5_config(arguments, card, arguments.scale or card.scales)
    told = {name: inherited(card, f"data.{name}") for name in ("scales", "patch", "shrink", "detail", "degrade")}
    dense = [int(v) for v in (told["scales"] or "").split()] or card.scales
    scales = arguments.scale or dense
    patch = arguments.patch or inherited_patch(card, scales, dense, told["patch"])
    shrink = arguments.shrink or [float(v) for v in (told["shrink"] or ("1 0.7" if card.upscale == "before" else "1")).split()]
    detail = float(told["detail"] or 0.0) if arguments.detail is None else arguments.detail
    return DataConfig(
        tuple(arguments.data),
        tuple(scales),
        patch,
        tuple(shrink),
        detail,
        card.upscale,
        colors_of(card),
        degrade=tuple((told["degrade"] or "").split()),
        one_scale=one_scale(card.upscale, card.scales),  # a network with branches is told the scale even where it is always one
    )


def check_scales(scales: Sequence[int] | None, card: ModelCard) -> None:
    """Check ``--scale``.

    Raises:
        InputError: a scale that the network does not serve.
    """
    for scale in scales or ():
        if scale not in card.scales:
            raise InputError(f"--scale {scale}: the network serves {', '.join(map(str, card.scales))}; choose among them")


def inherited_patch(card: ModelCard, scales: Sequence[int], dense: Sequence[int], told: str | None) -> int:
    """Return the patch side for ``scales`` of a network that was trained for ``dense`` with patches of side ``told``."""
    if told is None:
        return default_patch(card, card.scales if one_scale(card.upscale, card.scales) else scales)
    # With one scale a batch it is the side of the low-resolution patch.
    was_low, is_low = (one_scale(card.upscale, several) for several in (dense, card.scales))
    if was_low == is_low:
        return int(told)
    return int(told) * scales[0] if was_low else max(int(told) // dense[0], 1)


def inherited(card: ModelCard, name: str) -> str | None:
    """Return a fact of the recipe by which the network, or its nearest ancestor that was trained, came about."""
    found = {key: value for key, value in card.recipe.items() if key == name or key.endswith(f".{name}")}
    # What --qat trained with stands before the fine-tuning of the same network.
    nearest = min(found, key=lambda key: (key.count("parent."), "finetune." not in key, len(key)), default=None)
    return None if nearest is None else found[nearest]


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


def row(stage: str, network: nn.Module, shape: Shape, pictures: Sequence[Planes], card: ModelCard) -> Row:
    """Measure one stage; of a network with a branch for each scale, all weights, and the MACs of the default scale."""
    quality = validate(network, pictures, card.scales) if pictures else {}
    network.eval()
    return Row(stage, weight_count(network), macs(at_scale(network, card.default_scale), shape), quality)


def probe(pictures: Sequence[Planes], channels: int) -> Tensor:
    """Return a part of the first picture as float32 (1, c, h, w) in [0, 1], or noise of ``channels`` where there is none."""
    if pictures:
        part = np.ascontiguousarray(pictures[0][..., :PROBE_SIDE, :PROBE_SIDE])
        return torch.from_numpy(part).reshape(1, channels, *part.shape[-2:]) / 255.0
    return torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))


def report(rows: Sequence[Row], shape: Shape, path: Path | None, *, scale: int | None = None, share: float | None = None) -> None:
    """Print the before/after table and write it as JSON where asked.

    ``scale`` is that of the MACs, where it matters; ``share`` what is left of those of all scales, where it was chosen.
    """
    scales = list(rows[0].psnr_db)
    size = "x".join(map(str, shape)) + (f", x{scale}" if scale else "")
    heading = ["stage", "weights", f"GMAC at {size}", *(f"PSNR x{s}" for s in scales)]
    lines = [[r.stage, f"{r.weights:,}", f"{r.macs / 1e9:.2f}", *(f"{r.psnr_db[s]:.3f}" for s in scales)] for r in rows]
    print(table([heading, *lines]))
    if path is not None:
        results = [
            {"stage": r.stage, "weights": r.weights, "macs": r.macs, "psnr_db": {str(s): v for s, v in r.psnr_db.items()}}
            for r in rows
        ]
        where = {"macs_scale": scale} if scale else {}
        left = {} if share is None else {"macs_share": share}
        write_text(path, json.dumps({"shape": list(shape), **where, **left, "results": results}, indent=2) + "\n")


def _shape(values: Sequence[int] | None, card: ModelCard) -> Shape:
    channels = 1 if card.color == "y" else 3
    n, c, h, w = values or (1, channels, 256, 256)
    if min(n, c, h, w) < 1 or max(n, c, h, w) > MOST_SIDE:
        raise InputError(f"--shape {n} {c} {h} {w}: every side must be 1 to {MOST_SIDE}")
    if c != channels:
        raise InputError(f"--shape {n} {c} {h} {w}: this network takes {channels} channel(s), as 1 {channels} 256 256")
    return n, c, h, w

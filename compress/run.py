"""What ``sr-prune`` does once its options are known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard, Shape
from sr_deploy.compress.options import PruneOptions
from sr_deploy.compress.pruning.allocation import config_list_from
from sr_deploy.compress.pruning.criterion import NAMES
from sr_deploy.compress.pruning.masks import ConfigList, Masks, filter_masks, masks_from_config
from sr_deploy.compress.pruning.measured import Measured
from sr_deploy.compress.pruning.plan import Plan, Wanted, plan_of
from sr_deploy.compress.pruning.reconstruction import reconstruct
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.compress.pruning.rounds import round_facts, stage
from sr_deploy.compress.pruning.sensitivity import middle
from sr_deploy.compress.qat.awareness import Awareness, as_learned, awareness, begin_qat
from sr_deploy.compress.report import PruneResult, Row, bicubic_psnr_db, row
from sr_deploy.compress.teaching.distill import Distilling
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.compress.tuning import Tuning, finetune, finetune_data, loss_of, open_patches, patches_of, source_for, tuning_of
from sr_deploy.degrade import Planes
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes
from sr_deploy.notes import NOTES
from sr_deploy.options import check_type
from sr_deploy.progress import OnStep, progress_to
from sr_deploy.train.loop.status import Report, silent
from sr_deploy.train.loop.validation import load_validation
from sr_deploy.train.losses.content import Content
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import widths_of
from sr_deploy.train.preflight import check_device, check_log_dir, check_output
from sr_deploy.train.weights import checkpoint

MOST_SIDE = 16384
LOSS_DB = 0.05  # that training may lose without a warning
MEASURED_SIDE = 160  # pixels of the photographs that come with the project
PROBE_SIDE = 160  # pixels of what masked and smaller network are compared on


def prune(path: Path, options: PruneOptions, *, report: Report = silent, progress: OnStep | None = None) -> PruneResult:
    """Prune the network in the checkpoint ``path``, write the smaller one, and return what it costs and reaches; print nothing.

    Args:
        path: a checkpoint of this project, or of a known other one.
        options: everything about it.
        report: called after every step of fine-tuning and of quantization-aware training.
        progress: called while layers are measured and pictures are read.

    Raises:
        InputError: options that do not fit each other, the network, the pictures, or what is there already.
        CheckError: the smaller network does not compute what the masked one does.
        MachineError: the loss is no longer a number, a device or a package is missing, the disk is full.
    """
    check_type("path", path, Path, "a path")
    check_output(options.output, overwrite=options.overwrite)
    if os.path.realpath(options.output) == os.path.realpath(path):
        raise InputError(f"{options.output}: is the network to prune itself; choose another name with -o")
    check_log_dir(options.log_dir)
    check_device(options)
    with progress_to(progress):
        return Pruning(path, options, report).run()


class Pruning:
    """A pruning in progress: everything is checked before anything is removed."""

    def __init__(self, path: Path, options: PruneOptions, report: Report) -> None:
        network, card = checkpoint.load(path)
        self.options, self.card, self.report = options, card, report
        self.dense = network.folded()
        check_scales(options.scale, card)
        self.qat = awareness_of(options, self.dense, card) if options.qat else None
        self.tuning = tuning_of(options, self.dense, card) if options.finetune_steps else None
        self.shape = shape_of(options.shape, card)
        given = read_config(options.config) if options.config else None
        self.pictures = validation_pictures(options, card)
        self.source = source = source_for(options, card, self.tuning)
        self.measured = Measured(source, self.pictures, card, options.seed, options.criterion)
        wanted = Wanted(options.sparsity, options.target_macs, options.round_to, options.rounds)
        self.plan = Plan(given) if given is not None else plan_of(wanted, self.dense, self.measured, self.shape)
        self.rows = [self.row("dense", self.dense)]

    def run(self) -> PruneResult:
        """Prune in rounds, train, and return what was reached."""
        parent = {f"parent.{name}": value for name, value in self.card.recipe.items()}
        facts = {**parent, "prune.criterion": NAMES[self.options.criterion], **self.plan.facts}
        small, left, card = self.dense, Survivors(self.dense), self.card
        for number in range(1, self.plan.rounds + 1):
            config_list, masks = self.masks_of_round(small, number)
            facts |= round_facts(config_list, number, self.plan.rounds)
            small = self.without_filters(small, masks, left, number)
            if self.rows[-1].stage == stage("reconstructed", number, self.plan.rounds):
                facts["prune.reconstruct"] = f"{self.options.reconstruct} patches"
            small, card = self.tune(small, self.smaller_card(small, facts), number, left)
        if self.qat is not None:
            for name, rounded in self.quantization_aware(small, card, self.qat):
                self.rows.append(replace(self.rows[-1], stage=name, psnr_db=self.row(name, rounded).psnr_db))
        return PruneResult(
            self.options.output,
            checkpoint.read_card(self.options.output),
            tuple(self.rows),
            self.shape,
            bicubic_psnr_db(self.pictures, self.card.scales),
            self.plan.layers,
            self.card.default_scale if len(small.at_each_scale()) > 1 else None,
            self.plan.share,
        )

    def row(self, name: str, network: Network) -> Row:
        """Measure ``network``."""
        return row(name, network, self.shape, self.pictures, self.card)

    def masks_of_round(self, network: Network, number: int) -> tuple[ConfigList, Masks]:
        """Return which filters of ``network`` stay in one round, and the ``config_list`` that says so.

        Raises:
            InputError: NNI is needed and is not installed, or the list that was given does not fit the network.
        """
        if self.plan.config_list is not None:
            return self.plan.config_list, masks_from_config(network, self.plan.config_list)
        kept = self.plan.of_round(number)
        scores = self.measured.scores(network)
        return config_list_from(network, kept), filter_masks(network, kept, backend=self.options.pruner, scores=scores)

    def without_filters(self, network: Network, masks: Masks, left: Survivors, number: int) -> Network:
        """Return the smaller network of round ``number``, reconstructed, and take what it lost from ``left``.

        Raises:
            InputError: the masks do not fit the network.
            CheckError: the smaller network computes something else.
        """
        small = without_filters(network, masks)
        difference = check_equal(mask_filters(network, masks), small, probe(self.pictures, self.shape[1]))
        NOTES.info(f"removed filters: largest difference from the masked network {difference:.1e} (limit 1e-05)")
        left.remove_(masks)
        self.rows.append(self.row(stage("pruned", number, self.plan.rounds), small))
        if self.options.reconstruct and not all(bool(mask.all()) for mask in masks.values()):
            of_round = Survivors(network)
            of_round.remove_(masks)
            solved = reconstruct(small, network, of_round, *patches_of(self.options, self.card, self.source))
            if solved is None:
                NOTES.warning(
                    "reconstruction made it worse and is left out; --criterion activation keeps filters that carry more"
                )
                return small
            self.rows.append(self.row(stage("reconstructed", number, self.plan.rounds), solved))
            return solved
        return small

    def smaller_card(self, small: Network, facts: Mapping[str, str]) -> ModelCard:
        """Return the card of what is left; thresholds were learned for other weights."""
        changed = {"widths": widths_of(small), "config": small.facts, "parent_digest": self.card.digest}
        return self.card.with_changes(**changed, recipe=dict(facts), thresholds={}, keep=())

    def tune(self, small: Network, card: ModelCard, number: int, left: Survivors) -> tuple[Network, ModelCard]:
        """Return the network fine-tuned and its card, both written; where it is only to learn int8 yet, nothing is."""
        if self.tuning is not None:
            tuning = self.tuning.of_round(number, self.plan.rounds, left)
            small = finetune(self.options, small, card, tuning, self.report)
            self.rows.append(self.row(stage("fine-tuned", number, self.plan.rounds), small))
            warn_of_loss(self.rows[-2], self.rows[-1])
            return small, checkpoint.read_card(self.options.output)
        return small, card if self.qat is not None else checkpoint.save(self.options.output, small, card)

    def quantization_aware(self, network: Network, card: ModelCard, plan: Awareness) -> Iterator[tuple[str, Network]]:
        """Yield the fake-quantized network before and after its training, which writes the checkpoint."""
        options = self.options
        source = open_patches(options, plan.data)
        rounded = begin_qat(network, plan, source, options.device)
        yield "int8 before qat", rounded
        earlier = {f"finetune.{name}" if name.startswith("train.") else name: value for name, value in card.recipe.items()}
        stepper = Distilling(network, "output", plan.teacher_weight)
        tuning = Tuning(plan.recipe, plan.data, stepper, lambda: source, Content("pixel"), as_saved=as_learned)
        card = card.with_changes(recipe={**earlier, **plan.facts})
        yield "int8 after qat", finetune(options, rounded, card, tuning, self.report)


def awareness_of(options: PruneOptions, network: Network, card: ModelCard) -> Awareness:
    """Return how the network learns to compute in int8: with the loss and the data of fine-tuning."""
    return awareness(options, network, card, loss=loss_of(options, card), data=finetune_data(options, card))


def warn_of_loss(before: Row, after: Row) -> None:
    """Warn where training lost quality at some scale: too few pictures, or too large a step, for weights that were good."""
    drops = {scale: db - after.psnr_db[scale] for scale, db in before.psnr_db.items()}
    scale = max(drops, key=lambda one: drops[one])
    if drops[scale] > LOSS_DB:
        NOTES.warning(
            f"{after.stage}: {drops[scale]:.3f} dB less at x{scale} than {before.stage}; give more pictures (--data), a lower "
            "--lr, or --finetune-steps 0"
        )


def validation_pictures(options: PruneOptions, card: ModelCard) -> Sequence[Planes]:
    """Return what every stage is measured on: ``--val``, or the middle of each photograph of the accuracy guard's."""
    if options.val is not None:
        return load_validation(options.val, card.scales, card.color)
    return [middle(picture, MEASURED_SIDE) for picture in load_validation(folder("select"), card.scales, card.color)]


def check_scales(scales: Sequence[int] | None, card: ModelCard) -> None:
    """Check ``--scale``.

    Raises:
        InputError: a scale that the network does not serve.
    """
    for scale in scales or ():
        if scale not in card.scales:
            raise InputError(f"--scale {scale}: the network serves {', '.join(map(str, card.scales))}; choose among them")


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
    """Return a part of the first picture as float32 (1, c, h, w) in [0, 1], of ``channels``."""
    part = np.ascontiguousarray(pictures[0][..., :PROBE_SIDE, :PROBE_SIDE])
    return torch.from_numpy(part).reshape(1, channels, *part.shape[-2:]) / 255.0


def shape_of(values: Sequence[int] | None, card: ModelCard) -> Shape:
    """Return the shape that MACs are counted at.

    Raises:
        InputError: a side is out of range, or the network takes other channels.
    """
    channels = 1 if card.color == "y" else 3
    n, c, h, w = values or (1, channels, 256, 256)
    if min(n, c, h, w) < 1 or max(n, c, h, w) > MOST_SIDE:
        raise InputError(f"--shape {n} {c} {h} {w}: every side must be 1 to {MOST_SIDE}")
    if c != channels:
        raise InputError(f"--shape {n} {c} {h} {w}: this network takes {channels} channel(s), as 1 {channels} 256 256")
    return n, c, h, w

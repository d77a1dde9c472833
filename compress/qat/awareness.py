"""Quantization-aware fine-tuning: a network learns to compute in int8, and each threshold where to clip.

Thresholds start where calibration puts them. The network as it was before is the teacher: what counts is how far the rounded
network's picture is from the teacher's, mixed with how far it is from the original. The weights of the checkpoint stay float32;
its card holds the learned thresholds and the convolutions that were in float, and the export takes both from there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sr_deploy.card import ModelCard
from sr_deploy.compress.options import FINETUNING, PruneOptions
from sr_deploy.compress.qat.fake_quantization import fake_quantize, kept_in, thresholds_in, unquantize
from sr_deploy.compress.qat.placement import Placement, placement
from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.progress import progress
from sr_deploy.thresholds import OUTPUT_KEY, TINY, Counting, choose
from sr_deploy.train.data.batches import Batch, PatchSource
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.loop.devices import resolve_device
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.losses.content import without_features
from sr_deploy.train.losses.expression import ADVERSARIAL, FEATURE_TERMS, expression, terms_of
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

STEPS, LEARNING_RATE, TEACHER_WEIGHT = 300, 1e-4, 0.5
PIXELS, AT_ONCE = 2**20, 2**16  # that go into the first thresholds, at least; in one batch
# As the export: see docs/models.md on what a residual stream carries.
DEFAULT_METHOD: dict[Upscale, str] = {"before": "mse", "inside": "minmax"}


def pixel_loss(text: str) -> str:
    """Return the terms of a loss that compare pixels: what the rounded network is held to."""
    terms = terms_of(text)
    return expression(tuple(term for term in without_features(terms) if term[0] != ADVERSARIAL)) if is_perceptual(text) else text


def is_perceptual(text: str) -> bool:
    """Return whether a loss has a term that does not compare pixels: then pixels of the original are not what is wanted."""
    return any(name in (*FEATURE_TERMS, ADVERSARIAL) for name, _ in terms_of(text))


def first_thresholds(network: Network, plan: Awareness, source: PatchSource) -> dict[str, float]:
    """Return thresholds as calibration chooses them, from what flows through the float network on training patches.

    Of those that ``plan`` names; a value that is never anything but zero has none. ``network`` is in evaluation mode, on the
    device that computes.
    """
    names = plan.where.pairs
    counted = {name: Counting() for name in names}
    size = math.ceil(AT_ONCE / source.batch(size=1, seed=0, step=0).original[0, 0].numel())
    steps = PIXELS // AT_ONCE
    with progress("thresholds", steps) as advance, torch.no_grad():
        for batch in _batches(source, size, steps):
            for name, value in _values(network, names, batch):
                counted[name].add_(np.asarray(value.cpu().numpy()))
            advance("")
    histograms = {name: counting.histogram() for name, counting in counted.items()}
    return {name: choose(found, plan.method, name=name) for name, found in histograms.items() if found.maximum > TINY}


def as_learned(network: Network, card: ModelCard) -> tuple[Network, ModelCard]:
    """Return the float32 network under a fake-quantized one and its card, with what was learned."""
    return unquantize(network), card.with_changes(thresholds=thresholds_in(network), keep=kept_in(network))


def qat_recipe(options: PruneOptions, loss: str) -> Recipe:
    """Return how a rounded network is trained: Adam at a small rate that falls to 0, in float32."""
    steps = options.qat_steps or STEPS
    return Recipe(
        steps=steps,
        batch_size=options.settle(FINETUNING).batch_size,
        accumulate=options.accumulate,
        optimizer="adam",
        lr=options.qat_lr or LEARNING_RATE,
        weight_decay=0.0,
        schedule="cosine",
        warmup=min(20, steps // 10),
        clip_mode="none",
        clip=1.0,
        loss=pixel_loss(loss),
        seed=options.seed,
        ema=options.ema,
    )


@dataclass(frozen=True)
class Awareness:
    """How a network learns to compute in int8, checked before anything is trained."""

    where: Placement
    recipe: Recipe
    data: DataConfig
    method: str  # of the first thresholds
    teacher_weight: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.teacher_weight <= 1.0:
            raise InputError(f"--qat-teacher-weight {self.teacher_weight} is not in 0 to 1; 1 leaves the originals out")

    @property
    def facts(self) -> dict[str, str]:
        """What the card says of it, beside the recipe."""
        return {"qat.first_thresholds": self.method, "qat.teacher_weight": f"{self.teacher_weight:g}"}


def awareness(options: PruneOptions, network: Network, card: ModelCard, *, loss: str, data: DataConfig) -> Awareness:
    """Return how ``network`` learns, as the options ask; ``loss`` is what it was trained with.

    Raises:
        InputError: options that do not fit the network or each other.
    """
    if len(network.at_each_scale()) > 1 and set(data.scales) != set(card.scales):
        shown = " ".join(map(str, data.scales))
        raise InputError(f"--scale {shown}: an {card.arch} learns thresholds for all its scales together; leave --scale out")
    weight = options.qat_teacher_weight
    if weight is None:  # the pixels of the original are not what a network with a discriminator is after
        weight = 1.0 if is_perceptual(loss) else TEACHER_WEIGHT
    method = options.qat_method or DEFAULT_METHOD[card.upscale]
    return Awareness(placement(network, options.keep), qat_recipe(options, loss), data, method, weight)


def begin_qat(network: Network, plan: Awareness, source: PatchSource, device: str) -> Network:
    """Return the fake-quantized network with calibrated thresholds, on the CPU.

    Raises:
        InputError: nothing flows through a convolution that is to be int8.
    """
    teacher = copy.deepcopy(network).eval().to(resolve_device(device))
    thresholds = first_thresholds(teacher, plan, source)
    for name in plan.where.pairs:
        if name not in thresholds:
            raise InputError(f"{name}: nothing flowed through it, the network is dead there; leave it out with --keep {name}")
    return fake_quantize(network, thresholds, plan.where.keep)


def _batches(source: PatchSource, size: int, steps: int) -> Iterator[Batch]:
    for step in range(steps):
        yield source.batch(size=size, seed=0, step=step)


def _values(network: nn.Module, names: Sequence[str], batch: Batch) -> list[tuple[str, Tensor]]:
    """Return what flows on one batch, of those that it reaches."""
    found: list[tuple[str, Tensor]] = []
    modules = convolutions(network)
    hooks = []
    for name in names:
        module = modules[name.removesuffix(OUTPUT_KEY)]
        if name.endswith(OUTPUT_KEY):
            hooks.append(module.register_forward_hook(lambda _m, _i, output, name=name: found.append((name, output))))
        else:
            hooks.append(module.register_forward_pre_hook(lambda _m, inputs, name=name: found.append((name, inputs[0]))))
    device = next(network.parameters()).device
    try:
        MicroBatch(batch.degraded.to(device), batch.original, batch.scale).through(network)
    finally:
        for hook in hooks:
            hook.remove()
    return found

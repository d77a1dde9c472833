"""How a pruned network is trained: as its dense network was, unless the options say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from sr_deploy.calib_data import folder
from sr_deploy.card import ModelCard
from sr_deploy.compress.options import FINETUNING, PruneOptions
from sr_deploy.compress.pruning.rounds import recipe_of
from sr_deploy.compress.pruning.sensitivity import PATCHES, batches_from
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.compress.teaching.teacher import Teaching, teaching_of
from sr_deploy.detail import check_detail
from sr_deploy.measure import luma_of
from sr_deploy.notes import NOTES
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.hdf5_file import is_hdf5
from sr_deploy.train.data.options import colors_of, data_facts, default_patch, hdf5_config, in_order, one_scale
from sr_deploy.train.loop.loop import AsSaved, Run, as_it_is, train
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.loop.status import Report
from sr_deploy.train.loop.stepper import MakeStepper, MicroBatch
from sr_deploy.train.losses.content import RANDOM_VGG, Content, Kind, Wish, choose_content
from sr_deploy.train.losses.expression import ADVERSARIAL, FEATURE_TERMS, terms_of, weight_of
from sr_deploy.train.losses.vgg import Distance
from sr_deploy.train.networks.network import Network
from sr_deploy.train.recipe_options import recipe_from, stepper_for

LOOKED_AT = 16  # patches, before anything is trained


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


def loss_of(options: PruneOptions, card: ModelCard) -> str:
    """Return the loss of the options, or that of the dense network."""
    return options.loss or inherit(card, "train.loss") or ("mse" if card.upscale == "before" else "l1")


def tuning_of(options: PruneOptions, network: Network, card: ModelCard) -> Tuning:
    """Return how the pruned network is trained: with the dense network's loss and data, unless asked otherwise.

    A loss with a GAN term begins with a new discriminator.

    Raises:
        InputError: what is asked for and what is inherited do not fit.
        MachineError: VGG19's weights are needed and cannot be had.
    """
    loss = loss_of(options, card)
    loss, content = choose_content(loss, inherit_wish(options, card, loss))
    settings = replace(options.settle(FINETUNING), loss=loss)
    recipe, data = recipe_from(options, settings, content, steps=options.finetune_steps), finetune_data(options, card)
    if recipe.gan_loss is None and weight_of(loss, ADVERSARIAL):
        stored = inherit(card, "train.gan_loss")
        recipe = replace(recipe, gan_loss="lsgan" if stored == "lsgan" else "bce" if stored == "bce" else None)
    if inherit(card, "data.lr") is not None:
        NOTES.warning("it was trained on low-resolution pictures of their own; it is tuned on bicubic ones")
    stepper = stepper_for(recipe, data, content, compiled=options.compile)
    teaching = teaching_of(options, network, card, loss=loss, data=data)
    return Tuning(recipe, data, stepper, source_of(options, data), content, teaching)


def source_of(options: PruneOptions, data: DataConfig) -> Callable[[], PatchSource]:
    """Return what opens the training data at its first call and returns the same at every other."""
    return cache(partial(open_patches, options, data))


def open_patches(options: PruneOptions, data: DataConfig) -> PatchSource:
    """Return the training data, of which a few patches are looked at.

    Raises:
        InputError: they are flat.
    """
    source = PatchSource(data, workers=max(options.workers, 1), cache=options.cache)
    patches = 255.0 * source.batch(size=LOOKED_AT, seed=0, step=0).original.numpy()
    shown = " ".join(map(str, options.data))
    seen = (luma_of(patch if len(patch) == 3 else patch[0]) for patch in patches)
    check_detail(seen, f"--data {shown}", least=LOOKED_AT // 4, advice="name folders of photographs")
    return source


def source_for(options: PruneOptions, card: ModelCard, tuning: Tuning | None) -> Callable[[], PatchSource] | None:
    """Return what opens the pictures of ``--data``, trained on or not; ``None``: there are none."""
    if tuning is not None:
        return tuning.source
    return source_of(options, finetune_data(options, card)) if options.data else None


def patches_of(
    options: PruneOptions, card: ModelCard, source: Callable[[], PatchSource] | None
) -> tuple[list[MicroBatch], list[MicroBatch]]:
    """Return the patches on which layers are reconstructed, and others that judge the result.

    They are those of ``source``; ``None``: of the photographs that come with the project.
    """
    if source is None:
        own = finetune_data(replace(options, data=(folder("calibrate"),)), card)
        source = partial(PatchSource, own, workers=max(options.workers, 1), cache=options.cache)
    opened, count = source(), -(-options.reconstruct // PATCHES)
    taken = [batches_from(opened, seed=number) for number in range(count + 1)]
    return [batch for batches in taken[:-1] for batch in batches], taken[-1]


def inherit_wish(options: PruneOptions, card: ModelCard, loss: str) -> Wish:
    """Return what content the feature terms of ``loss`` are to have: as asked for, else as the dense network's had."""
    stored = inherit(card, "train.content") or ""
    if not any(name in FEATURE_TERMS for name, _ in terms_of(loss)):
        return Wish(options.content, options.vgg, options.vgg_distance)
    kind: Kind = options.content or ("random-vgg" if stored.startswith(RANDOM_VGG) else "vgg")
    distance: Distance = options.vgg_distance or ("l1" if stored.endswith(", l1") else "mse")
    return Wish(kind, options.vgg, distance)


def finetune(options: PruneOptions, network: Network, card: ModelCard, tuning: Tuning, report: Report) -> Network:
    """Train the pruned network on the dense network's task and write the checkpoint."""
    teacher_facts = {} if tuning.teaching is None else tuning.teaching.facts
    run = Run(
        recipe=tuning.recipe,
        data=tuning.source(),
        card=card.with_changes(recipe={**card.recipe, **data_facts(tuning.data), **teacher_facts}),
        output=options.output,
        report=report,
        stepper=tuning.stepper,
        as_saved=tuning.as_saved,
        keep_state=False,
        device=options.device,
        devices=options.devices,
        compile=options.compile,
        workers=options.workers,
        save_minutes=options.save_minutes,
        log_dir=options.log_dir,
    )
    tuned = train(run, network)
    return tuned.to("cpu")


def finetune_data(options: PruneOptions, card: ModelCard) -> DataConfig:
    """Return what is cut from the pictures: as for the dense network, unless asked otherwise."""
    if any(map(is_hdf5, options.data)):
        return hdf5_config(options, card, options.scale or card.scales)
    stored = {name: inherit(card, f"data.{name}") for name in ("scales", "patch", "shrink", "detail", "degrade")}
    dense = tuple(int(v) for v in (stored["scales"] or "").split()) or card.scales
    scales = options.scale or dense
    usual = "1 0.7" if card.upscale == "before" else "1"
    return DataConfig(
        options.data,
        scales,
        options.patch or inherit_patch(card, scales, dense, stored["patch"]),
        options.shrink or tuple(float(v) for v in (stored["shrink"] or usual).split()),
        float(stored["detail"] or 0.0) if options.detail is None else options.detail,
        card.upscale,
        colors_of(card),
        degrade=in_order((stored["degrade"] or "").split() if options.degrade is None else options.degrade),
        one_scale=one_scale(card.upscale, card.scales),  # a network with branches knows the scale even where it is always one
    )


def inherit_patch(card: ModelCard, scales: Sequence[int], dense: Sequence[int], stored: str | None) -> int:
    """Return the patch side for ``scales`` of a network that was trained for ``dense`` with patches of side ``stored``."""
    if stored is None:
        return default_patch(card, card.scales if one_scale(card.upscale, card.scales) else scales)
    # With one scale a batch it is the side of the low-resolution patch.
    was_low, is_low = (one_scale(card.upscale, several) for several in (dense, card.scales))
    if was_low == is_low:
        return int(stored)
    return int(stored) * scales[0] if was_low else max(int(stored) // dense[0], 1)


def inherit(card: ModelCard, name: str) -> str | None:
    """Return a fact of the recipe by which the network, or its nearest ancestor that was trained, came about."""
    found = {key: value for key, value in card.recipe.items() if key == name or key.endswith(f".{name}")}
    # What --qat trained with stands before the fine-tuning of the same network.
    nearest = min(found, key=lambda key: (key.count("parent."), "finetune." not in key, len(key)), default=None)
    return None if nearest is None else found[nearest]

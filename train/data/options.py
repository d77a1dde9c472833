"""What a run says about its data: options to settings, and settings to the facts on the model card."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.damage import DAMAGES
from sr_deploy.train.data.hdf5_file import PatchFile, is_hdf5
from sr_deploy.train.data.hr_lr import validation_part
from sr_deploy.train.options import DataOptions, PatchOptions


def data_config(options: DataOptions, card: ModelCard, scales: Sequence[int]) -> DataConfig:
    """Return what is cut from which pictures for a network with ``card``, at ``scales``.

    Raises:
        InputError: options that do not fit each other or the network.
    """
    if any(map(is_hdf5, options.data)):
        return hdf5_config(options, card, scales)
    usual = (1.0, 0.7) if card.upscale == "before" and options.lr_dir is None else (1.0,)
    return DataConfig(
        folders=options.data,
        scales=tuple(scales),
        patch=options.patch or default_patch(card, scales),
        shrink=options.shrink or usual,
        detail=options.detail or 0.0,
        upscale=card.upscale,
        colors=colors_of(card),
        one_scale=one_scale(card.upscale, scales),
        lr=options.lr_dir,
        span=spans(options.range)[0] if options.range else None,
        degrade=in_order(options.degrade or ()),
    )


def in_order(kinds: Collection[str]) -> tuple[str, ...]:
    """Return kinds of damage in the order in which they happen, each once."""
    return tuple(kind for kind in DAMAGES if kind in kinds)


def hdf5_config(options: PatchOptions, card: ModelCard, scales: Sequence[int]) -> DataConfig:
    """Return the settings for HDF5 files: they say themselves what patches they hold.

    Raises:
        InputError: a folder among the files, an option that is for pictures, or a file that cannot be read.
    """
    paths = options.data
    folders = [path for path in paths if not is_hdf5(path)]
    if folders:
        raise InputError(f"{folders[0]}: not an HDF5 file as {next(filter(is_hdf5, paths))} is; name the one kind or the other")
    for option, value in options.for_pictures().items():
        if value:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise InputError(f"{option} {shown}: for pictures, {paths[0]} holds patches; leave it out")
    several = one_scale(card.upscale, scales)
    if len(set(scales)) < len(scales) and not several:
        raise InputError(f"--scale {' '.join(map(str, scales))}: patches of {paths[0]} are drawn evenly; name each scale once")
    layout = PatchFile(paths[0]).layout
    patch = options.patch or (layout.given if several else layout.side)
    return DataConfig(paths, tuple(scales), patch, (1.0,), 0.0, card.upscale, colors_of(card), several)


def default_patch(card: ModelCard, scales: Sequence[int]) -> int:
    """Return the patch side of the network's paper (see ``DataConfig.side``); 96 for SRGAN's generator (section 3.2)."""
    if card.arch == "srresnet":
        return 96
    if card.upscale == "before":
        return 41
    return 48 * (1 if one_scale(card.upscale, scales) else scales[0])


def spans(text: str) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return first and last position of the training pictures and of the validation pictures, as ``--range`` gives them.

    Raises:
        InputError: not of the form ``1-800`` or ``1-800/801-810``, or a position that is no position.
    """
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})(?:/(\d{1,9})-(\d{1,9}))?", text)
    numbers = [int(number) for number in found.groups() if number is not None] if found else []
    parts = list(zip(numbers[::2], numbers[1::2], strict=True))
    if not parts or not all(1 <= first <= last for first, last in parts):
        raise InputError(f"--range {text}: not a range of positions from 1; 1-800, or 1-800/801-810 to validate on the second")
    return parts[0], parts[1] if len(parts) == 2 else None


def validation_pictures(options: DataOptions, folder: Path | None) -> Path | list[Path] | None:
    """Return what the run is validated on: ``folder`` (``--val``), the second part of ``--range``, or nothing.

    Raises:
        InputError: both are given, or there are not so many pictures.
    """
    span = spans(options.range)[1] if options.range else None
    if span is None:
        return folder
    if folder is not None:
        raise InputError(f"--val {folder}: --range {options.range} names validation pictures already; leave one out")
    return validation_part(options.data, span)


def colors_of(card: ModelCard) -> int:
    """Return the channels that a network reads: 1 for luma, 3 for RGB."""
    return 3 if card.color == "rgb" else 1


def one_scale(upscale: Upscale, scales: Sequence[int]) -> bool:
    """Return whether a batch has one scale: low-resolution patches of several scales do not fit into one tensor."""
    return upscale == "inside" and len(set(scales)) > 1


def data_facts(config: DataConfig) -> dict[str, str]:
    """Return what the card says of the data: settings and the folders' names, no paths."""
    facts = {
        "data.folders": " ".join(folder.name for folder in config.folders),
        "data.scales": " ".join(map(str, config.scales)),
        "data.patch": str(config.patch),
    }
    if is_hdf5(config.folders[0]):
        return facts
    return {
        **facts,
        "data.shrink": " ".join(f"{factor:g}" for factor in config.shrink),
        "data.detail": f"{config.detail:g}",
        **({"data.lr": config.lr.name} if config.lr else {}),
        **({"data.range": f"{config.span[0]}-{config.span[1]}"} if config.span else {}),
        **({"data.degrade": " ".join(config.degrade)} if config.degrade else {}),
    }

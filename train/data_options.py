"""What ``sr-train`` says about its data: options to settings, and settings to the facts on the model card."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Upscale
from sr_deploy.train.data_config import DataConfig


def data_config(arguments: argparse.Namespace, card: ModelCard) -> DataConfig:
    """Return what is cut from which pictures for a network with ``card``.

    Raises:
        InputError: options that do not fit each other or the network.
    """
    return DataConfig(
        folders=tuple(arguments.data),
        scales=tuple(arguments.scale),
        patch=arguments.patch,
        shrink=tuple(arguments.shrink),
        detail=arguments.detail,
        upscale=card.upscale,
        colors=colors_of(card),
        one_scale=one_scale(card.upscale, arguments.scale),
    )


def colors_of(card: ModelCard) -> int:
    """Return the channels that a network reads: 1 for luma, 3 for RGB."""
    return 3 if card.color == "rgb" else 1


def one_scale(upscale: Upscale, scales: Sequence[int]) -> bool:
    """Return whether a batch has one scale: low-resolution patches of several scales do not fit into one tensor."""
    return upscale == "inside" and len(set(scales)) > 1


def data_facts(config: DataConfig) -> dict[str, str]:
    """Return what the card says of the data: settings and the folders' names, no paths."""
    return {
        "data.folders": " ".join(folder.name for folder in config.folders),
        "data.scales": " ".join(map(str, config.scales)),
        "data.patch": str(config.patch),
        "data.shrink": " ".join(f"{factor:g}" for factor in config.shrink),
        "data.detail": f"{config.detail:g}",
    }

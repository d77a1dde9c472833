"""What each channel group costs in quality when it is pruned alone, measured on a few pictures.

The error is the mean squared difference from the dense network's output, so no original is needed and a bad picture costs
nothing. It is measured at a few sparsities and read off in between on the largest convex curve below the measured points: a
curve with a dent would make a step look dear whose neighbour is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sr_deploy.card import ModelCard
from sr_deploy.compress.pruning.allocation import channels_of
from sr_deploy.compress.pruning.masks import Scores, native_masks
from sr_deploy.compress.pruning.removal import mask_filters
from sr_deploy.degrade import Planes, network_pair
from sr_deploy.measure import psnr_from_error
from sr_deploy.progress import progress
from sr_deploy.train.data.batches import PatchSource
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.groups import ChannelGroup
from sr_deploy.train.networks.network import Network

SPARSITIES = (0.25, 0.5, 0.75, 0.9)
PATCHES, PICTURES, SIDE = 16, 8, 96  # from training data, at each scale of its own; parts of validation pictures, in pixels

Point = tuple[int, float]
"""Channels that stay, and the mean squared error of that, of pictures in [0, 1]."""


@dataclass(frozen=True)
class Curve:
    """The error of one group by what stays of it, with no other group pruned."""

    points: tuple[Point, ...]  # as measured, ascending channels; the last has them all, and no error

    @property
    def least(self) -> int:
        """The fewest channels that were measured; nothing is said of fewer."""
        return self.points[0][0]

    def error(self, kept: int) -> float:
        """Return the error at ``kept`` channels, on the convex curve."""
        for (left, low), (right, high) in pairwise(self._hull):
            if left <= kept <= right:
                return low + (high - low) * (kept - left) / (right - left)
        return self.points[-1][1] if kept >= self.points[-1][0] else math.inf

    def psnr_db(self, sparsity: float) -> float:
        """Return what is left, in dB against the dense network's output, at about ``sparsity``."""
        wanted = self.points[-1][0] * (1.0 - sparsity)
        error = min(self.points, key=lambda point: abs(point[0] - wanted))[1]
        return psnr_from_error(error * 255.0**2)

    @property
    def _hull(self) -> list[Point]:
        """The lower convex hull of the points (Andrew's monotone chain)."""
        hull: list[Point] = []
        for x, y in self.points:
            while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (
                hull[-1][0] - hull[-2][0]
            ):
                hull.pop()
            hull.append((x, y))
        return hull


def curves_of(network: Network, batches: Sequence[MicroBatch], scores: Scores | None = None) -> dict[ChannelGroup, Curve]:
    """Return the curve of every channel group: what is left of ``network`` when that group alone loses its least filters.

    Those of least L1 norm, or of least ``scores``.
    """
    channels = channels_of(network)
    with torch.no_grad(), progress("measuring layers", len(channels) * len(SPARSITIES)) as advance:
        dense = [batch.through(network) for batch in batches]
        curves = {}
        for group, n in channels.items():
            points: dict[int, float] = {n: 0.0}
            for sparsity in SPARSITIES:
                kept = n - int(n * sparsity)
                if kept not in points:
                    masks = native_masks(network, {group: kept}, scores)
                    points[kept] = error_of(mask_filters(network, masks), batches, dense)
                advance()
            curves[group] = Curve(tuple(sorted(points.items())))
    return curves


def error_of(pruned: nn.Module, batches: Sequence[MicroBatch], dense: Sequence[Tensor]) -> float:
    """Return the mean squared difference of what ``pruned`` makes of ``batches`` from what the dense network made of them."""
    errors = [(batch.through(pruned) - wanted).square() for batch, wanted in zip(batches, dense, strict=True)]
    return float(sum(error.double().sum() for error in errors)) / sum(error.numel() for error in errors)


def batches_from(source: PatchSource, *, seed: int) -> list[MicroBatch]:
    """Return a few training patches: mixed, or some of each scale where a batch has one."""
    config, rng = source.config, np.random.default_rng(seed)
    taken = []
    for scale in config.scales if config.one_scale else (None,):
        degraded, original = (torch.from_numpy(patches) for patches in source.samples.take(PATCHES, scale, rng))
        taken.append(MicroBatch(degraded, original, scale))
    return taken


def batches_of(pictures: Sequence[Planes], network: Network, card: ModelCard) -> list[MicroBatch]:
    """Return the middle of up to eight pictures, (h, w) or (3, h, w) in grey levels, at the card's scales in turns."""
    branched = len(network.at_each_scale()) > 1
    chosen, taken = pictures[:: math.ceil(len(pictures) / PICTURES)], []
    for number in range(max(len(chosen), len(card.scales))):
        scale = card.scales[number % len(card.scales)]
        pair = network_pair(middle(chosen[number % len(chosen)], SIDE), scale, card.upscale)
        planes = [torch.from_numpy(np.ascontiguousarray(plane, np.float32)) / 255.0 for plane in pair]
        degraded, original = (plane.reshape(1, -1, *plane.shape[-2:]) for plane in planes)
        taken.append(MicroBatch(degraded, original, scale if branched else None))
    return taken


def middle(picture: Planes, side: int) -> Planes:
    """Return the middle ``side`` x ``side`` pixels of (..., h, w), or as many as there are: a view."""
    h, w = picture.shape[-2:]
    top, left = (max(n - side, 0) // 2 for n in (h, w))
    return picture[..., top : top + side, left : left + side]

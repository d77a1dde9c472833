"""Facts about a whole picture that the enlargement of its first row needs already: they take a reading of their own.

Only pictures with transparency, whose hidden colours are replaced by the mean of the visible ones, and of 16 bits, whose white
depends on their largest sample, have any; an 8-bit picture without transparency is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sr_deploy.runtime.large.rows import STEP
from sr_deploy.runtime.pictures.rows import RowSource
from sr_deploy.runtime.pictures.samples import Levels, Samples, nominal, samples_of


@dataclass(frozen=True)
class Facts:
    """What is known of a picture before it is enlarged."""

    samples: Samples
    hidden_mean: Levels | None = None  # of the visible pixels, (1 or 3), where there are hidden ones


def need_reading(channels: int, dtype: np.dtype[np.generic]) -> bool:
    """Return whether a picture has facts that only its samples tell."""
    return channels in (2, 4) or dtype != np.uint8


def facts_of(source: RowSource) -> Facts:
    """Return what ``known_of`` of ``upscaling.py`` finds out about the same picture in memory; all rows are read.

    Raises:
        InputError: the picture is truncated or damaged.
    """
    height, width, channels = source.shape
    colours = 1 if channels <= 2 else 3
    ends = np.zeros(0, source.dtype)
    total, seen_count = np.zeros(colours), 0
    for first in range(0, height, STEP):
        rows = source.rows(first, min(first + STEP, height))
        shown = rows[..., :colours]
        ends = np.array([*ends, shown.min(), shown.max()], source.dtype)
        if channels in (2, 4):
            seen = rows[..., -1] > 0
            seen_count += int(np.count_nonzero(seen))
            total += rows[..., :-1].sum(axis=(0, 1), where=seen[..., None], dtype=np.float64)  # exact below 2**53
    samples = samples_of(ends)
    if channels in (1, 3) or seen_count in (0, height * width):
        return Facts(samples)
    return Facts(samples, samples.levels((total / seen_count).astype(np.float32)))


def nominal_facts(dtype: np.dtype[np.generic]) -> Facts:
    """Return the facts about an 8-bit picture without transparency."""
    return Facts(nominal(dtype))

"""How much memory the training pictures will take, and how much there is, known before they are decoded."""

from __future__ import annotations

from collections.abc import Sequence

from sr_deploy.memory import available_bytes
from sr_deploy.notes import NOTES
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hr_lr import Listed, known_sizes
from sr_deploy.train.data.pairs import GRID

ORIGINAL_BYTES, DEGRADED_BYTES, WEIGHT_BYTES = 1, 2, 8  # uint8, int16, float64


def warn_of_memory(pictures: Sequence[Listed], config: DataConfig) -> None:
    """Warn where the pictures will take more than half of the free memory."""
    free, needed = available_bytes(), needed_bytes(pictures, config)
    if needed > free / 2:
        NOTES.warning(
            f"{len(pictures)} pictures take about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "--cache DIR keeps them on disk instead"
        )


def needed_bytes(pictures: Sequence[Listed], config: DataConfig) -> int:
    """Return the bytes that the originals, their degradations and the weights of patches take, from the files' headers."""
    return int(sum(h * w for h, w in known_sizes(pictures)) * bytes_a_pixel(config))


def bytes_a_pixel(config: DataConfig) -> float:
    """Return the bytes that are kept for one pixel of a picture file."""
    weights = WEIGHT_BYTES / GRID**2 if config.detail else 0.0
    at_scales = (config.colors * DEGRADED_BYTES / config.step(scale) ** 2 + weights for scale in set(config.scales))
    return sum(factor**2 for factor in config.shrink) * (config.colors * ORIGINAL_BYTES + sum(at_scales))

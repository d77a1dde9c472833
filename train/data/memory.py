"""How much memory the training pictures will take, and how much there is, told before they are decoded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.pictures import picture_size
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hr_lr import Listed
from sr_deploy.train.data.pairs import GRID

ORIGINAL_BYTES, DEGRADED_BYTES, WEIGHT_BYTES = 1, 2, 8  # uint8, int16, float64
CGROUP = Path("/sys/fs/cgroup")  # version 2; a container's own


def warn_of_memory(pictures: Sequence[Listed], config: DataConfig) -> None:
    """Say so on standard error where the pictures will take more than half of the free memory."""
    free, needed = free_bytes(), needed_bytes(pictures, config)
    if free is not None and needed > free / 2:
        print(
            f"warning: {len(pictures)} pictures take about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "--cache DIR keeps them on disk instead",
            file=sys.stderr,
        )


def needed_bytes(pictures: Sequence[Listed], config: DataConfig) -> int:
    """Return the bytes that the originals, their degradations and the weights of patches take, from the files' headers."""
    total = 0.0
    for picture in pictures:
        try:
            h, w = picture_size(picture.hr)
        except InputError:
            continue  # it will be left out
        total += h * w * bytes_a_pixel(config)
    return int(total)


def bytes_a_pixel(config: DataConfig) -> float:
    """Return the bytes that are kept for one pixel of a picture file."""
    weights = WEIGHT_BYTES / GRID**2 if config.detail else 0.0
    at_scales = (config.colors * DEGRADED_BYTES / config.step(scale) ** 2 + weights for scale in set(config.scales))
    return sum(factor**2 for factor in config.shrink) * (config.colors * ORIGINAL_BYTES + sum(at_scales))


def free_bytes() -> int | None:
    """Return the memory that can be had without swapping, also within a container's limit; nothing where no one tells."""
    found = [value for value in (_of_machine(), _of_container()) if value is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_container() -> int | None:
    try:
        limit = int((CGROUP / "memory.max").read_text("ascii"))  # "max" where there is none
        used = int((CGROUP / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text("ascii").splitlines())
        return limit - used + int(stat["inactive_file"])  # pages of files, which are given up first
    except (OSError, ValueError, KeyError):
        return None

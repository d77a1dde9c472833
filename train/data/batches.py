"""Training data: batches of degraded and original patches, and the pictures that a run is validated on.

A batch is a function of ``(seed, step)`` alone, so that any number of workers and a resumed run see the same batches.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_deploy.train.data.ahead import map_ahead
from sr_deploy.train.data.cache import Cache
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hdf5_file import is_hdf5
from sr_deploy.train.data.hdf5_patches import HDF5Patches
from sr_deploy.train.data.hr_lr import list_training_pictures
from sr_deploy.train.data.memory import warn_of_memory
from sr_deploy.train.data.picture_patches import PicturePatches
from sr_deploy.train.data.store import Memory

__all__ = ["Batch", "DataConfig", "PatchSource"]

Patches = NDArray[np.float32]
"""Float32 (n, c, side, side) in [0, 1]."""


class Batch(NamedTuple):
    """Patches of one optimizer step: float32 in [0, 1]; c is 1 for luma and 3 for RGB."""

    degraded: Tensor  # (size, c, patch, patch), or (size, c, patch / scale, patch / scale) where the network enlarges
    original: Tensor  # (size, c, patch, patch)
    scale: int | None  # of all patches of the batch; None: scales are mixed, or there is one only


class Samples(Protocol):
    """Where patches are drawn from: pictures, or HDF5 files."""

    patches: int  # in one epoch
    digest: str  # of what is drawn from

    def take(self, size: int, scale: int | None, rng: np.random.Generator) -> tuple[Patches, Patches]: ...


class PatchSource:
    """Batches of (degraded, original) patches from folders of pictures, or from HDF5 files of patches."""

    def __init__(self, config: DataConfig, *, workers: int = 1, cache: Path | None = None) -> None:
        """Open HDF5 files, or decode and degrade every picture once.

        Pictures are kept in memory or in the folder ``cache``; the batches are the same.

        A picture that does not decode or is smaller than a patch is named in a warning and left out.

        Raises:
            InputError: no usable picture is left, a low-resolution picture is missing or of another size, or an HDF5 file
                does not fit the network.
            MachineError: the cache cannot be read or written, or h5py is not installed.
        """
        self.config = config
        self.samples: Samples
        if any(map(is_hdf5, config.folders)):
            self.samples = HDF5Patches(config)
        else:
            self.samples = picture_patches(config, workers=workers, cache=cache)
        self.patches = self.samples.patches  # in one epoch
        self.digest = self.samples.digest  # of the originals

    def batch(self, *, size: int, seed: int, step: int) -> Batch:
        """Return ``size`` patches, the same for the same arguments; their sides are those of ``DataConfig.side``."""
        rng = np.random.default_rng((seed, step))
        scale = self.config.scales[int(rng.integers(len(self.config.scales)))] if self.config.one_scale else None
        degraded, original = self.samples.take(size, scale, rng)
        return Batch(torch.from_numpy(degraded), torch.from_numpy(original), scale)

    def batches(self, *, size: int, seed: int, first_step: int, workers: int) -> Generator[Batch, None, None]:
        """Yield batches from ``first_step`` on for ever, prepared ``workers`` ahead by as many threads (0: none)."""
        if workers == 0:
            while True:
                yield self.batch(size=size, seed=seed, step=first_step)
                first_step += 1
        with ThreadPoolExecutor(workers) as pool:
            yield from map_ahead(
                pool, lambda step: self.batch(size=size, seed=seed, step=step), count(first_step), ahead=2 * workers - 1
            )


def picture_patches(config: DataConfig, *, workers: int, cache: Path | None) -> PicturePatches:
    """Return the patches of pictures, kept in memory, or in the folder ``cache``."""
    store = Memory() if cache is None else Cache(cache)
    pictures = list_training_pictures(config)
    if cache is None:
        warn_of_memory(pictures, config)
    return PicturePatches(config, pictures, store, workers=workers)

"""Patches from HDF5 files, drawn at random, each as often as any other, flipped and turned."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hdf5_file import Layout, PatchFile
from sr_deploy.train.data.pairs import turn

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Degraded and original patches."""


class HDF5Patches:
    """Degraded and original patches, drawn at random from files."""

    def __init__(self, config: DataConfig) -> None:
        """Open the files that ``config.folders`` names.

        Raises:
            InputError: a file cannot be read, or does not fit the network, or patches are to be damaged.
            MachineError: h5py is not installed.
        """
        if config.degrade:
            kinds = " ".join(config.degrade)
            raise InputError(f"--degrade {kinds}: for pictures, {config.folders[0]} holds patches; leave it out")
        files = [PatchFile(path) for path in config.folders]
        for file in files:
            check(file, config)
        told = {scale for file in files for scale in file.layout.scales}
        if all(file.layout.scales for file in files) and told != set(config.scales):
            names, numbers = ", ".join(str(file.path) for file in files), " ".join(map(str, sorted(told)))
            wanted = " ".join(map(str, sorted(set(config.scales))))
            raise InputError(f"{names}: holds patches of scale {numbers}, the network is trained for {wanted}; --scale {numbers}")
        self.by_scale = {s: [f for f in files if s in f.layout.scales] for s in config.scales if config.one_scale} or {0: files}
        self.patches = sum(file.layout.count for file in files)
        digest = hashlib.sha256()
        for file in files:
            with file.path.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
        self.digest = f"sha256:{digest.hexdigest()}"

    def take(self, size: int, scale: int | None, rng: np.random.Generator) -> Arrays:
        """Return ``size`` degraded and original patches, new float32 (size, c, ., .) in [0, 1], of ``scale`` or mixed.

        Raises:
            MachineError: a part of a file is damaged.
        """
        files = self.by_scale[scale or 0]
        ends = np.cumsum([file.layout.count for file in files])
        numbers = rng.integers(ends[-1], size=size)
        turns, mirrors = rng.integers(4, size=size), rng.integers(2, size=size)
        owners = np.searchsorted(ends, numbers, side="right")
        layout = files[0].layout
        degraded = np.empty((size, layout.colors, layout.given, layout.given), np.float32)
        original = np.empty((size, layout.colors, layout.side, layout.side), np.float32)
        for index, file in enumerate(files):
            mine = np.flatnonzero(owners == index)
            found = file.read(numbers[mine] - (ends[index] - file.layout.count))
            for place, a, b in zip(mine, *found, strict=True):
                degraded[place] = turn(a, int(turns[place]), mirror=bool(mirrors[place]))
                original[place] = turn(b, int(turns[place]), mirror=bool(mirrors[place]))
        return degraded, original


def check(file: PatchFile, config: DataConfig) -> None:
    """Check what a file holds against the network.

    Raises:
        InputError: another place of enlargement, number of channels, scale or patch.
    """
    layout, path = file.layout, file.path
    wanted = "low-resolution patches" if config.upscale == "inside" else "enlarged patches"
    if (layout.upscale or config.upscale) != config.upscale or (layout.given < layout.side) != (config.upscale == "inside"):
        shapes = f"data {layout.given}x{layout.given} and label {layout.side}x{layout.side}"
        raise InputError(f"{path}: {shapes} do not fit, this network reads {wanted}; prepare a file with the same --arch")
    if layout.colors != config.colors:
        raise InputError(
            f"{path}: its patches have {layout.colors} channel(s), the network reads {config.colors}; "
            f"--color {'rgb' if layout.colors == 3 else 'y'} reads them"
        )
    if layout.given < layout.side and layout.scales != (layout.side // layout.given,):
        raise InputError(
            f"{path}: its attributes say scale {layout.scales}, its patches {layout.side // layout.given}; prepare it again"
        )
    if config.one_scale and len(layout.scales) != 1:
        raise InputError(
            f"{path}: does not say one scale, which this network needs of every patch; prepare a file for each scale"
        )
    if patch_of(layout, config) != config.patch:
        raise InputError(
            f"{path}: its patches have side {patch_of(layout, config)}, --patch says {config.patch}; leave --patch out"
        )


def patch_of(layout: Layout, config: DataConfig) -> int:
    """Return what ``DataConfig.patch`` is for a file."""
    return layout.given if config.one_scale and config.upscale == "inside" else layout.side

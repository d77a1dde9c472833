"""Patches from HDF5 files, drawn at random, each as often as any other, flipped and turned."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hdf5_file import PatchFile
from sr_deploy.train.data.pairs import turn


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
        scales = {scale for file in files for scale in file.layout.scales}
        if all(file.layout.scales for file in files) and scales != set(config.scales):
            names, numbers = ", ".join(str(file.path) for file in files), " ".join(sorted(map(str, scales)))
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

    def take(self, size: int, scale: int | None, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return ``size`` degraded and original patches, new float32 (size, c, ., .) in [0, 1], of ``scale`` or mixed.

        Raises:
            InputError: a patch holds values far from [0, 1].
            MachineError: a part of a file is damaged.
        """
        files = self.by_scale[scale or 0]
        ends = np.cumsum([file.layout.count for file in files])
        numbers = rng.integers(ends[-1], size=size)
        turns, mirrors = rng.integers(4, size=size), rng.integers(2, size=size)
        owners = np.searchsorted(ends, numbers, side="right")
        order = np.argsort(numbers)  # that of the files: neighbours share a chunk
        pairs = []
        for place in order:
            file = files[owners[place]]
            pair = file.read(numbers[place] - (ends[owners[place]] - file.layout.count))
            pairs.append([turn(patch, int(turns[place]), mirror=bool(mirrors[place])) for patch in pair])
        degraded, original = (np.stack(patches)[np.argsort(order)] for patches in zip(*pairs, strict=True))
        return degraded, original


def check(file: PatchFile, config: DataConfig) -> None:
    """Check what a file holds against the network.

    Raises:
        InputError: another place of enlargement, number of channels, scale or patch.
    """
    layout, path = file.layout, file.path
    inside = config.upscale == "inside"
    if (layout.upscale or config.upscale) != config.upscale or (layout.given < layout.side) != inside:
        shapes = f"data {layout.given}x{layout.given} and label {layout.side}x{layout.side}"
        wanted = "low-resolution patches" if inside else "enlarged patches"
        raise InputError(f"{path}: {shapes} do not fit, this network reads {wanted}; prepare a file with the same --arch")
    if layout.colors != config.colors:
        raise InputError(
            f"{path}: its patches have {layout.colors} channel(s), the network reads {config.colors}; "
            f"--color {'rgb' if layout.colors == 3 else 'y'} reads them"
        )
    side = layout.given if config.one_scale and inside else layout.side
    if side != config.patch:
        raise InputError(f"{path}: its patches have side {side}, --patch says {config.patch}; leave --patch out")

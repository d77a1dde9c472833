"""``sr-train --prepare``: pictures to an HDF5 file of patches, cut on a grid at every size and scale."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import replacing
from sr_deploy.progress import progress
from sr_deploy.train.data.ahead import map_ahead
from sr_deploy.train.data.cache import Cache
from sr_deploy.train.data.config import DataConfig
from sr_deploy.train.data.hdf5_file import is_hdf5, library
from sr_deploy.train.data.hr_lr import Listed, known_sizes, list_training_pictures
from sr_deploy.train.data.options import data_config, spans
from sr_deploy.train.data.pairs import FRACTION, Pair, Raster
from sr_deploy.train.data.picture_pairs import usable_pairs
from sr_deploy.train.data.store import Memory, Store
from sr_deploy.train.options import PrepareOptions

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 65536  # read at once for one patch


@dataclass(frozen=True)
class Grid:
    """Which patches go into a file."""

    config: DataConfig
    stride: int  # pixels of the original between patches

    def __post_init__(self) -> None:
        if self.config.one_scale:
            scales = " ".join(map(str, self.config.scales))
            raise InputError(
                f"--prepare with --scale {scales}: patches differ in size where the network enlarges; a file for each"
            )
        if self.stride % self.config.step(self.config.scales[0]):
            raise InputError(f"--stride {self.stride} is no multiple of the scale {self.config.scales[0]}; choose one")

    def side(self) -> int:
        """Return the side of an original patch."""
        return self.config.patch

    def given(self) -> int:
        """Return the side of a degraded patch."""
        return self.config.patch // self.config.step(self.config.scales[0])

    def count(self, h: int, w: int) -> int:
        """Return the number of patches in a picture."""
        return max((h - self.side()) // self.stride + 1, 0) * max((w - self.side()) // self.stride + 1, 0)


@dataclass(frozen=True)
class PrepareResult:
    """What was written."""

    path: Path
    patches: int
    side: int  # of an original patch, in pixels
    pictures: int


def prepare_patches(options: PrepareOptions, card: ModelCard) -> PrepareResult:
    """Write the file that the options ask for, for a network with ``card``.

    Raises:
        InputError: the options do not fit each other or the pictures, or the file exists.
        MachineError: h5py is not installed, or the disk has no room.
    """
    output = options.output
    check_name(output, overwrite=options.overwrite)
    library()
    if any(map(is_hdf5, options.data)):
        raise InputError(f"--prepare {output}: {options.data[0]} holds patches already; name folders of pictures")
    config = data_config(options, card, options.scales)
    if options.range and spans(options.range)[1]:
        raise InputError(f"--range {options.range}: --prepare {output} validates nothing; give one part, as 1-800")
    grid = Grid(config, options.stride or config.patch)
    pictures = list_training_pictures(config)
    check_room(output, pictures, grid)
    store = Memory() if options.cache is None else Cache(options.cache)
    count = write_patches(output, grid, pictures, store, workers=options.workers)
    return PrepareResult(output, count, grid.side(), len(pictures))


def check_name(output: Path, *, overwrite: bool) -> None:
    """Check before any work that ``output`` may be written.

    Raises:
        InputError: it has another suffix, or exists and may not be replaced.
    """
    if not is_hdf5(output):
        raise InputError(f"--prepare {output}: a file of patches ends in .h5 or .hdf5, this one in {output.suffix or 'nothing'}")
    if output.exists() and not overwrite:
        raise InputError(f"--prepare {output}: exists already; add --overwrite to replace it, or choose another name")


def check_room(output: Path, pictures: Sequence[Listed], grid: Grid) -> None:
    """Check before any work that the disk has room for the patches.

    Raises:
        MachineError: it has not.
    """
    config = grid.config
    sizes = [(int(h * factor), int(w * factor)) for h, w in known_sizes(pictures) for factor in config.shrink]
    count = sum(grid.count(h, w) for h, w in sizes) * len(set(config.scales))
    needed = 4 * count * config.colors * (grid.side() ** 2 + grid.given() ** 2)
    place = next((folder for folder in output.absolute().parents if folder.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise MachineError(
            f"--prepare {output}: {count} patches take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "choose a larger --stride, or fewer pictures with --range"
        )


def write_patches(output: Path, grid: Grid, pictures: Sequence[Listed], store: Store, *, workers: int) -> int:
    """Write the patches of ``pictures`` in their order, whole or not at all, and return their number.

    Memory holds the pairs of the pictures that are being read, ``workers`` + 1 at most, and one row of patches.

    Raises:
        InputError: no picture holds a patch.
        MachineError: the disk is full, or the folder cannot be written.
    """
    with replacing(output) as temporary, Spool(temporary, "w+") as spool:
        count = fill(spool, grid, pictures, store, workers=workers)
        if spool.error is not None:
            reason = spool.error.strerror
            raise MachineError(f"--prepare {output}: writing failed ({reason}); nothing was changed, make room") from spool.error
    return count


class Spool(io.FileIO):
    """A file for HDF5's library, which crashes the process when writing fails: the error is kept, and writing goes on in name."""

    error: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all of ``content`` and return its length."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while rest:
                rest = rest[super().write(rest) or 0 :]
        except OSError as err:
            self.error = self.error or err
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file."""
        try:
            return super().truncate(size)
        except OSError as err:
            self.error = self.error or err
            return size or 0


def fill(output: Spool, grid: Grid, pictures: Sequence[Listed], store: Store, *, workers: int) -> int:
    """Write the patches of ``pictures`` into a new file and return their number; see :func:`write_patches`."""
    config = grid.config
    with library().File(output, "w") as file:
        sets = []  # that grow
        for name, side in (("data", grid.given()), ("label", grid.side())):
            shape = (config.colors, side, side)
            chunk = max(CHUNK_BYTES // (4 * config.colors * side * side), 1)
            sets.append(file.create_dataset(name, (0, *shape), "f4", maxshape=(None, *shape), chunks=(chunk, *shape)))
        pairs = partial(usable_pairs, config=config, store=store)
        with progress("cutting patches", len(pictures)) as advance, ThreadPoolExecutor(max(workers, 1)) as pool:
            for picture in map_ahead(pool, pairs, pictures, ahead=max(workers, 1)):
                for scale, pair, _ in picture:
                    for rows in rows_of_patches(pair, config.step(scale), grid):
                        if output.error is not None:
                            return 0
                        for patches, row in zip(sets, rows, strict=True):
                            patches.resize(len(patches) + len(row), axis=0)
                            patches[-len(row) :] = row
                advance()
        count = len(sets[0])
        if not count:
            folders = ", ".join(map(str, config.folders))
            raise InputError(f"{folders}: no picture of at least {grid.side()}x{grid.side()} pixels; name other folders")
        stored = {"scales": sorted(set(config.scales)), "colors": config.colors, "upscale": config.upscale, "patch": config.patch}
        file.attrs.update({**stored, "shrink": config.shrink, "stride": grid.stride})
    return count


def rows_of_patches(pair: Pair, step: int, grid: Grid) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield degraded and original patches of one row of the grid: float32 (n, c, side, side) in [0, 1]."""
    h, w = pair.size
    for top in range(0, h - grid.side() + 1, grid.stride):
        degraded = cut_row(pair.degraded, top // step, w // step, grid.given(), grid.stride // step)
        original = cut_row(pair.original, top, w, grid.side(), grid.stride)
        yield degraded / np.float32(FRACTION * 255), original / np.float32(255)


def cut_row(planes: Raster, top: int, width: int, side: int, stride: int) -> NDArray[np.float32]:
    """Return the patches that begin at row ``top``: float32 (n, c, side, side) in the units of ``planes``."""
    band = np.asarray(planes[:, top : top + side, :width], np.float32)
    windows = sliding_window_view(band, side, axis=2)[:, :, ::stride]  # (c, side, n, side)
    return np.ascontiguousarray(windows.transpose(2, 0, 1, 3))

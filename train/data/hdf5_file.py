"""HDF5 files of training patches, as pytorch-vdsr's ``train.h5``: data sets ``data`` (degraded) and ``label`` (original).

Both are float (n, c, side, side) in [0, 1]; where the network enlarges, ``data`` holds low-resolution patches. Files that
``sr-train --prepare`` wrote say in their attributes which ``scales`` they hold, and for which ``upscale``. Shapes and values of
all files are checked.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from sr_deploy.console import missing_package
from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.data.config import MOST_PATCH

SUFFIXES = frozenset({".h5", ".hdf5"})
PEEK = 64  # patches whose values are looked at


def is_hdf5(path: Path) -> bool:
    """Return whether ``path`` is named as an HDF5 file."""
    return path.suffix.lower() in SUFFIXES


def library() -> ModuleType:
    """Return h5py.

    Raises:
        MachineError: it is not installed.
    """
    with missing_package("hdf5"):
        return import_module("h5py")


@dataclass(frozen=True)
class Layout:
    """What a file holds."""

    count: int  # patches
    colors: int
    given: int  # side of a degraded patch
    side: int  # side of an original patch
    scales: tuple[int, ...]  # () where the file does not tell
    upscale: str | None  # None where the file does not tell


class PatchFile:
    """An open file; patches are read one by one, so memory holds a batch and no more. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and check what it holds.

        Raises:
            InputError: it is missing, no HDF5 file, or holds no patches.
            MachineError: h5py is not installed.
        """
        self.path, self._lock = path, threading.Lock()
        opener = library().File
        try:
            with path.open("rb"):
                pass
            self._file = opener(path, "r")
        except OSError as err:  # h5py's carry long sentences of the C library and no name
            reason = err.strerror if err.filename else "no HDF5 file, or cut short"
            raise InputError(f"{path}: cannot be read ({reason}); name a file that sr-train --prepare wrote") from err
        self.layout = self._layout()
        self._check_values()

    def __reduce__(self) -> tuple[type[PatchFile], tuple[Path]]:
        """Another process opens the file itself."""
        return PatchFile, (self.path,)

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the degraded and original patches of ``numbers``, new float32 (n, c, side, side).

        Raises:
            MachineError: a part of the file is damaged.
        """
        layout, n = self.layout, len(numbers)
        degraded = np.empty((n, layout.colors, layout.given, layout.given), np.float32)
        original = np.empty((n, layout.colors, layout.side, layout.side), np.float32)
        try:
            with self._lock:
                for name, out in (("data", degraded), ("label", original)):
                    patches = self._file[name]
                    for place in np.argsort(numbers):  # in the file's order: neighbours share a chunk
                        out[place] = patches[numbers[place]]
        except OSError as err:
            raise MachineError(f"{self.path}: cannot be read ({err}); it is damaged, prepare it again") from err
        for name, out in (("data", degraded), ("label", original)):
            if not np.isfinite(out).all():
                place = int(numbers[np.flatnonzero(~np.isfinite(out).all(axis=(1, 2, 3)))[0]])
                raise InputError(
                    f"{self.path}: patch {place} of {name} holds values that are no finite numbers; prepare it again"
                )
        return degraded, original

    def _layout(self) -> Layout:
        shapes = []
        for name in ("data", "label"):
            try:
                found = self._file.get(name)
            except (RuntimeError, KeyError, OSError) as err:
                raise InputError(
                    f"{self.path}: {name} cannot be opened ({' '.join(str(err).split())}); prepare it again"
                ) from err
            shape = tuple(getattr(found, "shape", None) or ())
            if found is None or not shape:
                held = ", ".join(self._file) or "nothing"
                raise InputError(f"{self.path}: holds no data set {name!r} (it holds {held}); data and label are needed")
            if len(shape) != 4 or shape[2] != shape[3] or shape[1] not in (1, 3) or found.dtype.kind != "f":
                raise InputError(
                    f"{self.path}: {name} is {found.dtype} {shape}; float patches (n, 1 or 3, side, side) are needed"
                )
            shapes.append(shape)
        data, label = shapes
        if not 1 <= label[2] <= MOST_PATCH or not 1 <= data[2] <= MOST_PATCH:
            raise InputError(
                f"{self.path}: data {data} and label {label}: sides of 1 to {MOST_PATCH} pixels are read; prepare it again"
            )
        if not data[0] or data[:2] != label[:2] or label[2] % max(data[2], 1):
            raise InputError(f"{self.path}: data {data} and label {label} do not fit each other, or are empty; prepare it again")
        scales = self._scales()
        if not scales and label[2] > data[2]:
            scales = (label[2] // data[2],)
        upscale = str(self._file.attrs["upscale"]) if "upscale" in self._file.attrs else None
        return Layout(data[0], data[1], data[2], label[2], scales, upscale)

    def _scales(self) -> tuple[int, ...]:
        value = self._file.attrs.get("scales", ())
        try:
            return tuple(int(number) for number in np.atleast_1d(value))
        except (TypeError, ValueError, OverflowError) as err:
            raise InputError(
                f"{self.path}: its attribute scales is {value!r}, whole numbers are needed; prepare it again"
            ) from err

    def _check_values(self) -> None:
        numbers = np.unique(np.linspace(0, self.layout.count - 1, PEEK).astype(np.int64))
        for name, values in zip(("data", "label"), self.read(numbers), strict=True):
            low, high = float(values.min()), float(values.max())
            if not (low >= -1.0 and high <= 2.0):  # bicubic overshoots
                raise InputError(f"{self.path}: {name} has values from {low:g} to {high:g}, 0 to 1 is needed; divide by 255")

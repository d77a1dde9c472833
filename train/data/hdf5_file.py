"""HDF5 files of training patches, as pytorch-vdsr's ``train.h5``: data sets ``data`` (degraded) and ``label`` (original).

Both are float (n, c, side, side) in [0, 1]; where the network enlarges, ``data`` holds low-resolution patches. Files that
``sr-train --prepare`` wrote say in their attributes which ``scales`` they hold, and for which ``upscale``. Shapes and values of
all files are checked.
"""

from __future__ import annotations

import os
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
PEEK = 64  # patches whose values are looked at before work

Patch = NDArray[np.float32]
"""Float32 (c, side, side) in [0, 1]."""


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
        try:
            self._file = library().File(path, "r")
        except OSError as err:  # h5py's carry long sentences of the C library
            reason = os.strerror(err.errno) if err.errno else "no HDF5 file, or cut short"
            raise InputError(f"{path}: cannot be read ({reason}); name a file that sr-train --prepare wrote") from err
        self.layout = self._layout()
        for number in np.unique(np.linspace(0, self.layout.count - 1, PEEK).astype(np.int64)):
            self.read(number)

    def __reduce__(self) -> tuple[type[PatchFile], tuple[Path]]:
        """Another process opens the file itself."""
        return PatchFile, (self.path,)

    def read(self, number: np.int64) -> tuple[Patch, Patch]:
        """Return a degraded patch and its original, new arrays.

        Raises:
            InputError: values far from [0, 1].
            MachineError: a part of the file is damaged.
        """
        try:
            with self._lock:
                degraded, original = (np.asarray(self._file[name][number], np.float32) for name in ("data", "label"))
        except OSError as err:
            raise MachineError(f"{self.path}: cannot be read ({err}); it is damaged, prepare it again") from err
        for name, patch in (("data", degraded), ("label", original)):
            low, high = float(patch.min()), float(patch.max())
            if not (low >= -1.0 and high <= 2.0):  # bicubic overshoots; NaN is neither
                raise InputError(
                    f"{self.path}: patch {number} of {name} has values from {low:g} to {high:g}, 0 to 1 is needed; "
                    "divide grey levels by 255, or prepare it again"
                )
        return degraded, original

    def _layout(self) -> Layout:
        data, label = (self._shape(name) for name in ("data", "label"))
        if not data[0] or data[:2] != label[:2] or label[2] % data[2] or label[2] > MOST_PATCH:
            raise InputError(
                f"{self.path}: data {data} and label {label} do not fit each other, are empty, or have sides of more than "
                f"{MOST_PATCH} pixels; prepare it again"
            )
        scales = tuple(np.ravel(self._file.attrs.get("scales", ())).tolist())
        if label[2] > data[2]:
            scales = (label[2] // data[2],)
        upscale = str(self._file.attrs["upscale"]) if "upscale" in self._file.attrs else None
        return Layout(data[0], data[1], data[2], label[2], scales, upscale)

    def _shape(self, name: str) -> tuple[int, ...]:
        try:
            found = self._file.get(name)
        except (RuntimeError, OSError):  # a link to itself, or into a file that is gone
            found = None
        shape = tuple(getattr(found, "shape", None) or ())
        if not shape:
            held = ", ".join(self._file) or "nothing"
            raise InputError(f"{self.path}: holds no data set {name!r} (it holds {held}); data and label are needed")
        if len(shape) != 4 or shape[2] != shape[3] or shape[1] not in (1, 3) or not shape[2] or found.dtype.kind != "f":
            raise InputError(f"{self.path}: {name} is {found.dtype} {shape}; float patches (n, 1 or 3, side, side) are needed")
        return shape

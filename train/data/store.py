"""Where the arrays of the training data are kept: in memory here, on disk in ``cache.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sr_deploy.train.data.pairs import Raster

Kind = TypeVar("Kind", bound=np.generic)

Facts = tuple[object, ...]
"""What decides the content of an array, beside the version of the code that makes it."""


class Store(Protocol):
    """Keeps arrays that are made once."""

    def identify(self, path: Path) -> str:
        """Return what stands for a picture file in ``Facts``.

        Raises:
            InputError: the file cannot be read.
        """

    def keep(self, facts: Facts, make: Callable[[], NDArray[np.generic]]) -> Raster:
        """Return the three-dimensional array of ``facts``; ``make`` makes it where it is not kept already."""

    def recall(self, facts: Facts, make: Callable[[], NDArray[Kind]]) -> NDArray[Kind]:
        """Return the small array of ``facts``, in memory; ``make`` makes it where it is not kept already."""


class Memory:
    """Keeps arrays in memory, for this run only."""

    def identify(self, path: Path) -> str:
        """Return the name: nothing outlives the run."""
        return str(path)

    def keep(self, facts: Facts, make: Callable[[], NDArray[np.generic]]) -> Raster:
        """Return what ``make`` makes."""
        return make()

    def recall(self, facts: Facts, make: Callable[[], NDArray[Kind]]) -> NDArray[Kind]:
        """Return what ``make`` makes."""
        return make()

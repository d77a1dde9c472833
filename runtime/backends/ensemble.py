"""Geometric self-ensemble: the mean over the eight flips and rotations of what goes in (EDSR, CVPRW 2017, section 3.4, "EDSR+").

It works on tiles, so it serves every engine and stays exact: the halo of a tile is the same in all directions. It is eight times
the work.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sr_deploy.errors import InputError
from sr_deploy.runtime.backends.engine import Engine, Tiles, WrappedEngine

VIEWS = tuple((turns, mirror) for turns in range(4) for mirror in (False, True))


def average_views(run: Callable[[Tiles], Tiles]) -> Callable[[Tiles], Tiles]:
    """Return ``run`` averaged over the eight views of its float32 (..., h, w) argument; the result has its orientation."""

    def averaged(x: Tiles) -> Tiles:
        total = np.zeros(0, np.float32)
        for turns, mirror in VIEWS:
            view = np.rot90(x[..., ::-1] if mirror else x, turns, axes=(-2, -1))
            back = np.rot90(run(np.ascontiguousarray(view)), -turns, axes=(-2, -1))
            back = back[..., ::-1] if mirror else back
            total = total + back if total.size else back.copy()
        return np.asarray(total / np.float32(len(VIEWS)), np.float32)

    return averaged


class EnsembleEngine(WrappedEngine):
    """An engine whose every tile is the mean over its eight views."""

    def __init__(self, engine: Engine, *, source: str) -> None:
        """Wrap an engine; closing this one closes it.

        Raises:
            InputError: its tiles are not square, so a turned one does not fit.
        """
        shape = engine.card.input_shape
        assert shape is not None
        if shape[2] != shape[3]:
            raise InputError(
                f"{source}: --ensemble turns tiles, its tiles are {shape[2]}x{shape[3]}; export it with a square --shape"
            )
        super().__init__(engine)
        self._run = average_views(engine.run)

    def run(self, tiles: Tiles) -> Tiles:
        """Return new tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`."""
        return self._run(tiles)

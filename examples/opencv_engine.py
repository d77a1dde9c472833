"""The OpenCV backend: a ``.cvnet`` file is an fp32 ONNX graph that OpenCV's DNN module runs.

A copy of it is ``runtime/backends/opencv_engine.py`` in docs/add_a_backend.md.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, InputError
from sr_deploy.runtime.backends.card_check import check_card
from sr_deploy.runtime.backends.engine import Gpu, Tiles, check_tiles
from sr_deploy.runtime.backends.onnx_file import read_card


class OpenCVEngine:
    """A graph loaded by OpenCV; threads take turns."""

    provider = "OpenCV"

    def __init__(self, path: Path) -> None:
        """Check and load ``path``.

        Raises:
            InputError: it is damaged, its card does not fit, or OpenCV cannot read it.
        """
        self.path, self._turn = path, Lock()
        self._card = read_card(path)  # checks the digest, too
        check_card(self._card, source=str(path))
        self._network: cv2.dnn.Net | None = None
        try:
            self._network = cv2.dnn.readNetFromONNX(np.fromfile(path, np.uint8))
        except cv2.error as err:
            raise InputError(f"{path}: OpenCV cannot read it ({err.err}); export fp32") from err

    @property
    def card(self) -> ModelCard:
        """The card in the file."""
        return self._card

    @property
    def batches(self) -> tuple[int, ...]:
        """One tile at a time."""
        return (1,)

    @property
    def gpu(self) -> Gpu | None:
        """None: OpenCV computes on the CPU."""
        return None

    def run(self, tiles: Tiles) -> Tiles:
        """Run any number of tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`."""
        check_tiles(tiles, self._card)
        with self._turn:
            return np.concatenate([self._run(tile[None]) for tile in tiles])

    def _run(self, tile: Tiles) -> Tiles:
        if self._network is None:
            raise EngineError(f"{self.path}: the engine was closed; load it again")
        try:
            self._network.setInput(np.ascontiguousarray(tile))
            return np.asarray(self._network.forward(), np.float32)
        except cv2.error as err:
            raise EngineError(f"{self.path}: OpenCV failed ({err.err}); use the .onnx") from err

    def close(self) -> None:
        """Free the network."""
        self._network = None

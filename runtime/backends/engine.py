"""The seam between pictures and backends: a loaded model is an ``Engine``."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard

Tiles = NDArray[np.float32]
"""Tiles of a picture: float32 (n, c, h, w), any n >= 1.

c is 1 for luma (BT.601 studio range over 255) and 3 for RGB in [0, 1].
"""

CPU = "CPUExecutionProvider"

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]


class Engine(Protocol):
    """A loaded model; wrap it in ``contextlib.closing`` to free device memory."""

    @property
    def card(self) -> ModelCard:
        """What the model says about itself."""

    def run(self, tiles: Tiles) -> Tiles:
        """Return new (n, c, scale * h, scale * w) tiles, not clipped: a residual network may overshoot its range.

        ``n`` is free: the backend splits it into its own batches.

        Raises:
            ValueError: ``tiles`` is not float32 of the card's tile shape.
            EngineError: the backend failed.
        """

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""


def on_cpu(engine: Engine) -> bool:
    """Return whether ONNX Runtime computes an engine on the CPU."""
    return getattr(engine, "provider", "") == CPU


def check_tiles(tiles: Tiles, card: ModelCard) -> None:
    """Check that ``tiles`` is what the engine of ``card`` takes.

    Raises:
        ValueError: another dtype, rank or tile shape.
    """
    expected = (card.input_shape or (1, 1, 0, 0))[1:]
    if tiles.dtype != np.float32 or tiles.ndim != 4 or tiles.shape[1:] != expected or not len(tiles):
        raise ValueError(f"tiles are {tiles.dtype} {tiles.shape}, the engine takes float32 (n >= 1, {expected})")

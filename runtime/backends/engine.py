"""The seam between pictures and backends: a loaded model is an ``Engine``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard

Tiles = NDArray[np.float32]
"""Tiles of a picture: float32 (n, c, h, w), any n >= 1.

c is 1 for luma (BT.601 studio range over 255) and 3 for RGB in [0, 1].
"""

CPU = "CPUExecutionProvider"  # what ONNX Runtime calls it

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class Gpu:
    """What an engine that drives a GPU by itself knows of it."""

    times_ms: Callable[[int, int], list[float]]  # of (rounds, batch): each round's by the GPU's clock, copies left out
    held_bytes: int  # its memory of buffers and contexts
    peak_tflops: Callable[[], float]  # measures the operations a second of a matrix product, in 10^12; EngineError if it cannot


class Engine(Protocol):
    """A loaded model; wrap it in ``contextlib.closing`` to free device memory."""

    @property
    def card(self) -> ModelCard:
        """What the model says about itself."""

    @property
    def provider(self) -> str:
        """What computes it: ``CPU`` or another provider of ONNX Runtime, ``TensorRT``, ``PyTorch``."""

    @property
    def batches(self) -> tuple[int, ...]:
        """How many tiles it can take at once: one number, or several for a plan with several profiles."""

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that it drives by itself; ``None`` where a library does, or on a CPU."""

    def run(self, tiles: Tiles) -> Tiles:
        """Return new (n, c, scale * h, scale * w) tiles, not clipped: a residual network may overshoot its range.

        ``n`` is free: the backend splits it into its own batches.

        Raises:
            ValueError: ``tiles`` is not float32 of the card's tile shape.
            EngineError: the backend failed.
        """

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""


class WrappedEngine:
    """An engine around another one; closing it closes the other. Subclasses change how tiles are run."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def card(self) -> ModelCard:
        """The engine's card."""
        return self.engine.card

    @property
    def provider(self) -> str:
        """What computes the engine."""
        return self.engine.provider

    @property
    def batches(self) -> tuple[int, ...]:
        """How many tiles the engine can take at once."""
        return self.engine.batches

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that the engine drives by itself."""
        return self.engine.gpu

    def run(self, tiles: Tiles) -> Tiles:
        """Return new tiles; see :class:`Engine`."""
        return self.engine.run(tiles)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def on_cpu(engine: Engine) -> bool:
    """Return whether ONNX Runtime computes an engine on the CPU."""
    return engine.provider == CPU


def check_tiles(tiles: Tiles, card: ModelCard) -> None:
    """Check that ``tiles`` is what the engine of ``card`` takes.

    Raises:
        ValueError: another dtype, rank or tile shape.
    """
    expected = (card.input_shape or (1, 1, 0, 0))[1:]
    if tiles.dtype != np.float32 or tiles.ndim != 4 or tiles.shape[1:] != expected or not len(tiles):
        raise ValueError(f"tiles are {tiles.dtype} {tiles.shape}, the engine takes float32 (n >= 1, {expected})")

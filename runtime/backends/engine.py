"""The seam between pictures and backends: a loaded model is an ``Engine``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError, MachineError

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


def load(
    path: Path, *, provider: Provider = "auto", threads: int | None = None, trusted: bool = False, exact: bool = False
) -> Engine:
    """Load an ``.onnx`` with ONNX Runtime or a ``.plan`` with TensorRT; nothing heavy is imported before the suffix is known.

    Args:
        path: the engine file.
        provider: where ONNX Runtime runs it; ``auto`` is CUDA where it is offered, else the CPU.
        threads: CPU threads; ``None`` is one for each core.
        trusted: whether the user vouches for a plan without a card, or with host code (``--trust-plan``).
        exact: whether integer sums on the CPU never saturate, so that an int8 graph gives the same on every processor;
            slower on x86 without VNNI.

    Raises:
        InputError: missing, of an unknown kind, damaged, or without a model card.
        MachineError: what runs this kind of engine is not on this machine.
    """
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".plan"):
        raise InputError(
            f"{path}: not an engine ({suffix or 'no suffix'}); name an .onnx made by sr-export or a .plan by sr-build"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with {'sr-build' if suffix == '.plan' else 'sr-export'}")
    if suffix == ".plan":
        from sr_deploy.runtime.backends.tensorrt_engine import load_plan

        try:
            return load_plan(path, trusted=trusted)
        except MachineError as err:
            if type(err) is not MachineError:
                raise  # TensorRT or CUDA failed: it is here, and said why
            raise MachineError(f"{path}: {err}; or use the .onnx it was built from") from err
    try:
        from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
    except ImportError as err:
        raise MachineError(
            f"no inference engine is installed ({' '.join(str(err).split())}); pip install 'sr-deploy[cpu]' (onnxruntime), "
            "'sr-deploy[cuda]' (onnxruntime-gpu) or 'sr-deploy[tensorrt]'"
        ) from err
    return OnnxEngine(path, provider=provider, threads=threads, exact=exact)


def exact_engines(engines: Mapping[str, Engine], stack: ExitStack, *, threads: int | None = None) -> dict[str, Engine]:
    """Return what judges the quality of ``engines``, by the path they were loaded from: the same on every processor.

    Of an int8 graph on the CPU that is a second engine, whose sums never saturate, which ``stack`` closes; of others it is the
    engine itself.
    """
    found = dict(engines)
    for name, engine in engines.items():
        if engine.card.precision == "int8" and on_cpu(engine):
            found[name] = stack.enter_context(closing(load(Path(name), provider="cpu", threads=threads, exact=True)))
    return found


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

"""Whether an engine's weights are the network's, up to the rounding of its precision.

Pictures alone cannot show every damage: an int8 engine is about 50 dB away from fp32 by its own rounding, and the largest
weight of a layer may belong to a filter that few pictures excite. But a weight that was only rounded is at most half a step
from where it was, so comparing each weight in units of its own step finds a single flipped sign in any layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.console import missing_package
from sr_deploy.errors import InputError
from sr_deploy.runtime.onnx_file import read_weights

Weights = Mapping[str, NDArray[np.generic]]


def largest_error_steps(engine: Path, reference: Path) -> tuple[float, str] | None:
    """Return the largest weight error of an ``.onnx`` engine and its convolution, ``None`` for other engines.

    The unit is the step of the engine's precision at that weight: the scale of its channel in int8, the spacing of float16
    or float32 numbers. Rounding alone gives at most 0.5. ``reference`` is the fp32 graph or checkpoint.

    Raises:
        InputError: both have no weight in common.
    """
    if engine.suffix != ".onnx":
        return None
    ours, theirs = read_weights(engine), reference_weights(reference)
    convolutions = {name: value for name, value in theirs.items() if value.ndim == 4}
    errors = {name: steps(ours, name, value) for name, value in convolutions.items()}
    if not any(stored_as(ours, name) for name in convolutions):
        raise InputError(f"{engine}: has no weight in common with {reference}; name the checkpoint it was exported from")
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst.removesuffix(".weight")


def reference_weights(path: Path) -> Weights:
    """Return the weights of an fp32 graph or a checkpoint by name."""
    if path.suffix != ".safetensors":
        return read_weights(path)
    with missing_package("train"):
        from sr_deploy.train import checkpoint
    return {name: tensor.numpy() for name, tensor in checkpoint.tensors(path).items()}


def stored_as(weights: Weights, name: str) -> str | None:
    """Return the name under which an engine keeps the weight ``name``: as it is, in half, or quantized."""
    return next((n for n in (name, f"{name}.half", f"{name}.quantized") if n in weights), None)


def steps(weights: Weights, name: str, expected: NDArray[np.generic]) -> float:
    """Return the largest error of one weight tensor in steps; infinite if it is missing, of another shape, or not finite."""
    stored = stored_as(weights, name)
    if stored is None:
        return float("inf")
    value = weights[stored]
    if value.shape != expected.shape:
        return float("inf")
    target = expected.astype(np.float64)
    if stored.endswith(".quantized"):
        step = weights[f"{name}.scale"].astype(np.float64)[:, None, None, None]
        error = np.abs(value.astype(np.float64) - target / step)
    else:
        spacing = np.spacing(np.abs(target).astype(value.dtype)).astype(np.float64)
        error = np.abs(value.astype(np.float64) - target) / spacing
    worst = float(error.max())
    return worst if np.isfinite(worst) else float("inf")

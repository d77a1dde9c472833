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
from sr_deploy.files import is_checkpoint
from sr_deploy.runtime.backends.onnx_file import Graph, read_graph

Array = NDArray[np.generic]


def largest_error_steps(engine: Path, reference: Path, scale: int) -> tuple[float, str] | None:
    """Return the largest weight error of an ``.onnx`` engine and its convolution, ``None`` for other engines.

    The unit is the step of the engine's precision at that weight: the scale of its channel in int8, the spacing of float16
    or float32 numbers. Rounding alone gives at most 0.5. ``reference`` is the fp32 graph or checkpoint, of which a branch for
    another ``scale`` does not count.

    Raises:
        InputError: both have no convolution in common.
    """
    if engine.suffix != ".onnx":
        return None
    graph, weights = read_graph(engine), reference_weights(reference, scale)
    if not weights.keys() & graph.convolutions.keys():
        raise InputError(f"{engine}: has no convolution in common with {reference}; name the checkpoint it was exported from")
    errors = {name: steps(graph, name, weight) for name, weight in weights.items()}
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst


def reference_weights(path: Path, scale: int) -> Mapping[str, Array]:
    """Return the weights (out, in, kh, kw) of an fp32 graph or of a checkpoint's network at a scale, by convolution."""
    if not is_checkpoint(path):
        graph = read_graph(path)
        return {name: graph.tensors[node.inputs[1]] for name, node in graph.convolutions.items()}
    with missing_package("train"):
        from sr_deploy.train.weights import checkpoint
    network = checkpoint.load(path)[0].folded().at_scale(scale)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return {name.removesuffix(".weight"): value for name, value in tensors.items() if value.ndim == 4}


def steps(graph: Graph, name: str, expected: Array) -> float:
    """Return the largest error in steps of the weight that convolution ``name`` reads; infinite where it cannot be compared."""
    found = stored_weight(graph, name)
    if found is None or found[0].shape != expected.shape:
        return float("inf")
    value, scale = found
    target = expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if scale is None:
            spacing = np.spacing(np.abs(target).astype(value.dtype)).astype(np.float64)
        else:
            target, spacing = target / scale.reshape(-1, 1, 1, 1), np.ones(1)
        worst = float((np.abs(value.astype(np.float64) - target) / spacing).max())
    return worst if np.isfinite(worst) else float("inf")


def stored_weight(graph: Graph, name: str) -> tuple[Array, NDArray[np.float64] | None] | None:
    """Return the weight that convolution ``name`` reads and, of an int8 one, its scales; the zero point is taken off.

    ``None``: there is no such convolution, or its weight is computed by something other than a DequantizeLinear.
    """
    node = graph.convolutions.get(name)
    if node is None:
        return None
    if node.inputs[1] in graph.tensors:
        return graph.tensors[node.inputs[1]], None
    maker = graph.maker(node.inputs[1])
    if maker is None or maker.kind != "DequantizeLinear" or not all(value in graph.tensors for value in maker.inputs):
        return None
    integers, scale, *zero = (graph.tensors[value].astype(np.float64) for value in maker.inputs)
    if zero:
        integers = integers - zero[0].reshape(-1, 1, 1, 1)
    return integers, scale

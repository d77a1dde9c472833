"""Bias correction: what quantization shifts a convolution's output by on average, taken off again (Nagel et al., ICCV 2019).

Clipping and rounding do not cancel out: activations behind a ReLU are clipped on one side only, and an error of the mean is
an error of brightness and flat areas. The mean of a convolution's output is linear in the means of its input channels, so the
shift of each output channel follows from the mean of each input channel before and after quantization and from the sums of the
weights, without running the int8 graph: E[w * x] - E[q(w) * q(x)] (the border, where padding counts, is left out of account).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.quantize import quantize_weight, scale_of
from sr_deploy.export.graphs.reading import convolution_nodes
from sr_deploy.export.graphs.suffix import with_taps
from sr_deploy.export.sessions import Sessions
from sr_deploy.progress import progress
from sr_deploy.thresholds import QMAX

TILES = 16

Shifts = dict[str, list[float]]
"""By convolution, what its bias gains, for each output channel."""


def bias_shifts(model: onnx.ModelProto, thresholds: Mapping[str, float], tiles: CalibrationSet, sessions: Sessions) -> Shifts:
    """Return what the bias of each convolution with a threshold gains when it computes in int8.

    Args:
        model: the fp32 graph.
        thresholds: of the convolutions' inputs by name.
        tiles: calibration tiles, of which at most ``TILES`` are used, evenly chosen.
        sessions: what opens graphs.
    """
    nodes = [node for node in convolution_nodes(model) if node.name in thresholds]
    values = [value for value in dict.fromkeys(node.input[0] for node in nodes) if value != INPUT]
    session = sessions.open(with_taps(model, values))
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        readers.setdefault(node.input[0], []).append(node)
    plain: dict[str, list[NDArray[np.float64]]] = {node.name: [] for node in nodes}
    rounded: dict[str, list[NDArray[np.float64]]] = {node.name: [] for node in nodes}
    with progress("bias correction", min(TILES, len(tiles))) as advance:
        for tile in tiles.some(TILES):
            given = ort.OrtValue.ortvalue_from_numpy(tile)
            found = {INPUT: given, **dict(zip(values, session.run_with_ort_values(None, {INPUT: given})[1:], strict=True))}
            for value, made in found.items():  # an array of one of them at a time
                x = made.numpy()
                for node in readers.get(value, ()):
                    plain[node.name].append(x.mean(axis=(0, 2, 3), dtype=np.float64))
                    rounded[node.name].append(mean_rounded(x, scale_of(thresholds[node.name])))
            advance("")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    shifts: Shifts = {}
    for node in nodes:
        weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float32)
        integers, scale = quantize_weight(weight)
        sums = weight.sum(axis=(2, 3), dtype=np.float64)
        quantized_sums = integers.sum(axis=(2, 3), dtype=np.float64) * scale[:, None]
        mean, mean_quantized = (np.mean(found, axis=0) for found in (plain[node.name], rounded[node.name]))
        shifts[node.name] = [float(np.float32(v)) for v in sums @ mean - quantized_sums @ mean_quantized]
    return shifts


def mean_rounded(x: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """Return the mean of each channel of ``x`` (n, c, h, w) after quantization to int8: float64 (c,)."""
    means = []
    for number in range(x.shape[1]):  # a channel at a time takes less memory
        integers = x[:, number] / np.float32(scale)
        np.clip(np.rint(integers, out=integers), -QMAX - 1, QMAX, out=integers)
        means.append(integers.mean(dtype=np.float64))
    return np.asarray(means) * scale

"""The int8 pass: explicit QuantizeLinear/DequantizeLinear around the convolutions that become int8.

Symmetric everywhere, zero point 0. Weights are stored as int8 with one scale per output channel (max |w| / 127),
activations have one scale per tensor (threshold / 127). Scales are rounded up to the next float16 number, at most one
part in a thousand: so a build whose remainder is float16 computes with exactly these numbers.

Placement. The input of an int8 convolution is quantized. Its output is quantized *before* the ReLU as well, at the scale
of the value behind the ReLU: for a symmetric type ReLU and quantization commute, relu(dq(q(x))) = dq(q(relu(x))), so
nothing changes in the numbers, but only then does ONNX Runtime run the convolution in integers (it does not fuse
Conv-Relu-Q for signed types). Between two pairs the ReLU itself is written as a LeakyRelu of slope 0, the same function, for
which ONNX Runtime has an int8 kernel. TensorRT's build undoes both (``tensorrt_graph``).

A convolution that ends a residual block is followed by an addition to the stream, which stays float: its output gets a pair with
a threshold of its own, so that it runs in integers too.

A kept convolution computes in float32. Whether it also *reads* float32 depends on its threshold: with one, an int8
convolution in front of it still ends in integers (the fast case, used for the last convolution); without one, that
convolution's output stays float (``--keep``, for quality).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from sr_deploy.errors import InputError
from sr_deploy.export.graphs.model import make_model, shapes_of
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes, residual_outputs
from sr_deploy.thresholds import QMAX


def kept_by_default(model: onnx.ModelProto) -> frozenset[str]:
    """Return the first and the last convolution: what they lose is seen directly in the picture."""
    names = [node.name for node in convolution_nodes(model)]
    return frozenset((names[0], names[-1]))


def check_names(model: onnx.ModelProto, names: Set[str]) -> None:
    """Check that every name is a convolution of the graph.

    Raises:
        InputError: one is not.
    """
    known = [node.name for node in convolution_nodes(model)]
    for name in sorted(names - set(known)):
        raise InputError(f"--keep {name}: no convolution of this network; known: {', '.join(known)}")


def quantize(
    model: onnx.ModelProto,
    thresholds: Mapping[str, float],
    *,
    keep: Set[str],
    shifts: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> onnx.ModelProto:
    """Return a new model in which every convolution but those in ``keep`` computes in int8.

    Args:
        model: a float32 model from ``to_onnx``.
        thresholds: largest represented magnitude of each convolution's input, by the convolution's name, and, as
            ``NAME.output``, of the output of those that end a residual block, where it is known.
        keep: convolutions that stay float32.
        shifts: what the bias of an int8 convolution gains, for each output channel (``bias``).
    """
    check_names(model, keep)
    builder = _Builder(model, thresholds, keep, shifts)
    for node in model.graph.node:
        builder.add(node)
    return make_model(builder.nodes, sorted(builder.tensors.values(), key=lambda t: t.name), *shapes_of(model))


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights of the same shape (out, in, kh, kw) and the scale of each output channel, float32 (out,)."""
    peak = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = round_up(np.where(peak > 0.0, peak / QMAX, 1.0))
    integers = np.clip(np.rint(weight / scale[:, None, None, None]), -QMAX, QMAX)
    return integers.astype(np.int8), scale


def round_up(scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the least float16 numbers that are not below ``scale`` and not zero, as float32; beyond float16, ``scale``."""
    with np.errstate(over="ignore"):
        half = np.asarray(scale).astype(np.float16)
        up = np.where(half.astype(np.float64) < scale, np.nextafter(half, np.float16(np.inf)), half)
    up = np.maximum(up, np.finfo(np.float16).smallest_subnormal)
    return np.where(np.isfinite(up), up, scale).astype(np.float32)


class _Builder:
    def __init__(
        self,
        model: onnx.ModelProto,
        thresholds: Mapping[str, float],
        keep: Set[str],
        shifts: Mapping[str, Sequence[float]],
    ) -> None:
        self.model, self.keep, self.shifts = model, keep, shifts
        self.weights = {t.name: t for t in model.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self.renamed: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.pairs: dict[str, str] = {}
        for node in convolution_nodes(model):
            if node.name in thresholds:
                self.scales[node.input[0]] = scale_of(thresholds[node.name])
        ends = residual_outputs(model).items()
        self.ends = {value: scale_of(thresholds[f"{n}{OUTPUT_KEY}"]) for n, value in ends if f"{n}{OUTPUT_KEY}" in thresholds}

    def add(self, node: NodeProto) -> None:
        if node.op_type == "Conv" and node.name not in self.keep:
            self._add_int8(node)
        else:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [self.renamed.get(name, name) for name in node.input]
            if node.op_type == "Relu" and node.input[0] in self.renamed and self._is_read_in_int8(node.output[0]):
                copy.op_type = "LeakyRelu"
                copy.attribute.append(onnx.helper.make_attribute("alpha", 0.0))
            self.nodes.append(copy)
            self._keep_tensors(node)

    def _is_read_in_int8(self, value: str) -> bool:
        users = [node for node in self.model.graph.node if value in node.input]
        return bool(users) and all(node.op_type == "Conv" and node.name not in self.keep for node in users)

    def _add_int8(self, node: NodeProto) -> None:
        if node.input[0] not in self.scales:
            raise InputError(f"{node.name}: has no threshold; calibrate again, or leave it out with --keep {node.name}")
        copy = NodeProto()
        copy.CopyFrom(node)
        source = node.input[0]
        copy.input[0] = self._pair(self.renamed.get(source, source), self.scales[source], source)
        copy.input[1] = self._weight(node.input[1])
        self._add_bias(node, copy)
        self.nodes.append(copy)
        scale = self._output_scale(node.output[0])
        if scale is not None:
            self.renamed[node.output[0]] = self._pair(node.output[0], scale, node.output[0])

    def _add_bias(self, node: NodeProto, copy: NodeProto) -> None:
        """Give the int8 convolution its bias, which stays float32, with what quantization shifts taken off."""
        shift = self.shifts.get(node.name)
        if shift is None:
            self.tensors |= {name: self.weights[name] for name in node.input[2:]}
            return
        value = np.asarray(shift, np.float32)
        if len(node.input) > 2:
            value = value + numpy_helper.to_array(self.weights[node.input[2]])
        name = f"{node.name}.bias"
        copy.input[:] = [*copy.input[:2], name]
        self.tensors[name] = numpy_helper.from_array(value, name)

    def _output_scale(self, value: str) -> float | None:
        """Return the scale of what is behind a convolution, looking through the ReLU that follows it; or of a block's end."""
        users = [node for node in self.model.graph.node if value in node.input]
        if len(users) == 1 and users[0].op_type == "Relu":
            return self.scales.get(users[0].output[0])
        return self.ends.get(value)

    def _pair(self, value: str, scale: float, base: str) -> str:
        if base not in self.pairs:
            self.tensors[f"{base}.scale"] = numpy_helper.from_array(np.array(scale, np.float32), f"{base}.scale")
            self.tensors[f"{base}.zero"] = numpy_helper.from_array(np.array(0, np.int8), f"{base}.zero")
            parameters = [f"{base}.scale", f"{base}.zero"]
            self.nodes.append(_node("QuantizeLinear", [value, *parameters], f"{base}.quantized"))
            self.nodes.append(_node("DequantizeLinear", [f"{base}.quantized", *parameters], f"{base}.dequantized"))
            self.pairs[base] = f"{base}.dequantized"
        return self.pairs[base]

    def _weight(self, name: str) -> str:
        integers, scale = quantize_weight(numpy_helper.to_array(self.weights[name]).astype(np.float32))
        zero = np.zeros(len(scale), np.int8)
        parts: dict[str, NDArray[np.generic]] = {f"{name}.quantized": integers, f"{name}.scale": scale, f"{name}.zero": zero}
        for part, content in parts.items():
            self.tensors[part] = numpy_helper.from_array(content, part)
        self.nodes.append(
            onnx.helper.make_node("DequantizeLinear", list(parts), [f"{name}.dequantized"], name=f"{name}.dequantize", axis=0)
        )
        return f"{name}.dequantized"

    def _keep_tensors(self, node: NodeProto) -> None:
        for name in node.input:
            if name in self.weights:
                self.tensors[name] = self.weights[name]


def scale_of(threshold: float) -> float:
    """Return the scale of an activation with this threshold."""
    return float(round_up(np.array(threshold / QMAX)))


def _node(kind: str, inputs: list[str], output: str) -> NodeProto:
    return onnx.helper.make_node(kind, inputs, [output], name=output.removesuffix("d"))

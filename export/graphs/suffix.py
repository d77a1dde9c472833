"""The part of a graph that one convolution in int8 changes: everything before it is computed once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from sr_deploy.card import Shape
from sr_deploy.export.graphs.model import INPUT, OUTPUT
from sr_deploy.export.graphs.narrow import narrow_tail
from sr_deploy.export.graphs.quantize import quantize
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes


@dataclass(frozen=True)
class Suffix:
    """A graph from one int8 convolution to the output, and the values of the fp32 graph that it reads."""

    name: str
    model: onnx.ModelProto
    reads: tuple[str, ...]


def suffix_of(model: onnx.ModelProto, name: str, thresholds: Mapping[str, float]) -> Suffix:
    """Return what follows from running the convolution ``name`` alone in int8, and nothing that does not.

    Args:
        model: a float32 model from ``to_onnx``.
        name: the convolution.
        thresholds: of its input by its name, and of its output as ``NAME.output`` where it ends a residual block.
    """
    others = frozenset(node.name for node in convolution_nodes(model)) - {name}
    own = {key: value for key, value in thresholds.items() if key.removesuffix(OUTPUT_KEY) == name}
    alone = quantize(model, own, keep=others)
    known = {node.name for node in model.graph.node}
    constants = {tensor.name: tensor for tensor in alone.graph.initializer}
    changed: set[str] = set()
    nodes = []
    for node in alone.graph.node:
        if node.name == name or node.name not in known or changed & set(node.input):
            changed |= set(node.output)
            nodes.append(node)
    reads = dict.fromkeys(value for node in nodes for value in node.input if value not in changed and value not in constants)
    used = {value for node in nodes for value in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "suffix",
        [onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None) for value in reads],
        [onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, None)],
        [tensor for key, tensor in constants.items() if key in used],
    )
    made = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    return Suffix(name, narrow_tail(made), tuple(reads))


def with_taps(model: onnx.ModelProto, values: list[str]) -> onnx.ModelProto:
    """Return a copy of ``model`` whose outputs are its own and then ``values``, inner float32 ones."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    for value in values:
        tapped.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    return tapped


def at_shape(model: onnx.ModelProto, shape: Shape) -> onnx.ModelProto:
    """Return a copy of ``model`` for another input ``shape`` (n, c, h, w): none of its nodes depends on the size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given, made = (value.type.tensor_type.shape.dim for value in (copy.graph.input[0], copy.graph.output[0]))
    factor = made[2].dim_value // given[2].dim_value
    for dims, scale in ((given, 1), (made, factor)):
        for dim, side in zip((dims[0], dims[2], dims[3]), (shape[0], shape[2] * scale, shape[3] * scale), strict=True):
            dim.dim_value = side
    assert copy.graph.input[0].name == INPUT
    return copy

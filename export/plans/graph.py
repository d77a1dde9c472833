"""The graphs that TensorRT is given: derived from the exported ones by passes that change no number of the int8 part.

The exported int8 graph is made for every engine; TensorRT wants three things otherwise. It fuses Conv-Relu-Q, so the pair that
stands before a ReLU goes behind it. A strongly typed network (TensorRT 10 and 11) computes in the types of the graph, so
what is float32 beside the int8 convolutions becomes float16, which needs opset 19 (before it, scales are float32 only). And
a parser that rejects int8 initializers gets float weights with a Q/DQ pair of equal value.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from sr_deploy.errors import InputError

HALF_OPSET, HALF_IR = 19, 9


def pairs_behind_relus(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a new int8 model in which no Q/DQ pair stands before a ReLU, and every ReLU is called so.

    ``relu(dq(q(x))) = dq(q(relu(x)))`` for a symmetric type, so the pair moves behind the ReLU, and where one of the same
    scale stands there already, the two are one.
    """
    copy = _copy(model)
    for node in copy.graph.node:
        if is_relu(node):
            node.op_type = "Relu"
            del node.attribute[:]
    users = _users(copy)
    made = {output: node for node in copy.graph.node for output in node.output}
    gone: set[str] = set()
    for relu in [node for node in copy.graph.node if node.op_type == "Relu"]:
        dequantize = made.get(relu.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or len(users[relu.input[0]]) != 1:
            continue
        quantize = made[dequantize.input[0]]
        source, behind = quantize.input[0], relu.output[0]
        relu.input[0] = source
        following = [node for node in users.get(behind, []) if node.op_type == "QuantizeLinear"]
        same = [node for node in following if _equal(copy, node.input[1], quantize.input[1])]
        if same:
            # The pair behind the ReLU serves every reader, also one that read the ReLU itself.
            rounded = users[same[0].output[0]][0].output[0]
            for node in users[behind]:
                if node is not same[0]:
                    node.input[:] = [rounded if name == behind else name for name in node.input]
            gone |= {quantize.name, dequantize.name}
            continue
        quantize.input[0] = behind
        for node in users.get(behind, []):
            node.input[:] = [dequantize.output[0] if name == behind else name for name in node.input]
    return _in_order(copy, [node for node in copy.graph.node if node.name not in gone])


def is_relu(node: NodeProto) -> bool:
    """Return whether a node is a ReLU, also one written as a LeakyRelu of slope 0."""
    if node.op_type != "LeakyRelu":
        return node.op_type == "Relu"
    slopes = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == "alpha"]
    return slopes == [0.0]


def half_remainder(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a new int8 model whose float32 values, scales included, are float16; its input and output stay float32.

    Exact for the int8 part: the exported scales are float16 numbers. Weights of kept convolutions and biases are rounded.

    Raises:
        InputError: a value is beyond float16.
    """
    copy = _copy(model)
    # The factors of a Resize are float32 in every precision (ONNX, Resize-13).
    factors = {name for node in copy.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    wide = [t for t in copy.graph.initializer if t.data_type == TensorProto.FLOAT and t.name not in factors]
    for tensor in wide:
        if not np.all(np.abs(numpy_helper.to_array(tensor)) <= np.finfo(np.float16).max):
            raise InputError(f"{tensor.name}: holds values beyond float16, so no strongly typed int8 plan can be built; use fp32")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    source, target = copy.graph.input[0].name, copy.graph.output[0].name
    for node in copy.graph.node:
        node.input[:] = [f"{source}.half" if name == source else name for name in node.input]
        node.output[:] = [f"{target}.half" if name == target else name for name in node.output]
    first = onnx.helper.make_node("Cast", [source], [f"{source}.half"], name="cast_input", to=TensorProto.FLOAT16)
    last = onnx.helper.make_node("Cast", [f"{target}.half"], [target], name="cast_output", to=TensorProto.FLOAT)
    nodes = [first, *copy.graph.node, last]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.opset_import[0].version, copy.ir_version = HALF_OPSET, HALF_IR
    onnx.checker.check_model(copy, full_check=True)
    return copy


def float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a new int8 model that keeps its weights as float32 numbers with a Q/DQ pair: equal values, four times the size."""
    copy = _copy(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            stored, scale = (tensors[name] for name in node.input[:2])
            wide = numpy_helper.to_array(stored).astype(np.float32) * _along(numpy_helper.to_array(scale), stored)
            name = stored.name
            stored.CopyFrom(numpy_helper.from_array(wide.astype(np.float32), f"{name}.float"))
            quantize = onnx.helper.make_node(
                "QuantizeLinear", [stored.name, *node.input[1:]], [name], name=f"{node.name}.quantize", axis=0
            )
            nodes.append(quantize)
        nodes.append(node)
    return _in_order(copy, nodes)


def with_batch(model: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    """Return a new model whose input and output hold ``batch`` tiles; ``None``: any number of them."""
    copy = _copy(model)
    for value in (copy.graph.input[0], copy.graph.output[0]):
        dimension = value.type.tensor_type.shape.dim[0]
        if batch is None:
            dimension.dim_param = "n"
        else:
            dimension.dim_value = batch
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _equal(model: onnx.ModelProto, first: str, second: str) -> bool:
    if first == second:
        return True
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in (first, second)}
    return len(values) == 2 and np.array_equal(values[first], values[second])


def _along(scale: NDArray[np.generic], stored: TensorProto) -> NDArray[np.float32]:
    shape = (-1, *(1,) * (len(stored.dims) - 1)) if scale.ndim else ()
    return scale.astype(np.float32).reshape(shape)


def _users(model: onnx.ModelProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    return copy


def _in_order(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> onnx.ModelProto:
    """Put ``nodes`` into ``model`` in an order in which every value is made before it is read; drop unused weights."""
    waiting = list(nodes)
    known = {model.graph.input[0].name, *(tensor.name for tensor in model.graph.initializer)}
    order: list[NodeProto] = []
    while waiting:
        index = next(i for i, node in enumerate(waiting) if all(name in known for name in node.input if name))
        node = waiting.pop(index)
        known |= set(node.output)
        order.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in order]
    used = {name for node in copies for name in node.input}
    tensors = [TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in used]
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model, full_check=True)
    return model

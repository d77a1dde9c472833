"""A last convolution of few filters behind a PixelShuffle, computed in front of it: the same picture for a third of the work.

ONNX Runtime computes 16 filters at once, so a convolution that makes three colours costs as much as one that makes 16. In front
of PixelShuffle(r) the same convolution makes 3 * r * r channels at a size r * r times smaller: output (o, r*i+a, r*j+b) is a sum
over inputs (c, r*(i+u)+p, r*(j+v)+q), which are channel (c, p, q) at (i+u, j+v) there. The sums are the same in another order, so
it is for what is measured again and again, and never for a graph that is written.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from sr_deploy.export.graphs.reading import convolution_nodes

AT_ONCE = 16  # filters that ONNX Runtime computes at once, with AVX-512


def narrow_tail(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with its last convolution in front of the PixelShuffle and the PReLU that it reads, where it has them.

    A convolution of more filters than are computed at once stays where it is, and so does one without a PReLU of one slope.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    tail = convolution_nodes(model)[-1]
    act = made.get(tail.input[0])
    shuffle = made.get(act.input[0]) if act is not None and act.op_type == "PRelu" else None
    if act is None or shuffle is None or shuffle.op_type != "DepthToSpace" or tail.input[1] not in constants:
        return model
    factor = onnx.helper.get_node_attr_value(shuffle, "blocksize")
    weight = numpy_helper.to_array(constants[tail.input[1]])
    readers = [sum(value in node.input for node in model.graph.node) for value in (shuffle.output[0], act.output[0])]
    if readers != [1, 1] or math.prod(constants[act.input[1]].dims) != 1 or len(weight) * factor**2 > AT_ONCE:
        return model
    tensors = [numpy_helper.from_array(before_shuffle(weight, factor), "narrow.weight")]
    if len(tail.input) > 2:
        bias = numpy_helper.to_array(constants[tail.input[2]])
        tensors.append(numpy_helper.from_array(bias.repeat(factor**2), "narrow.bias"))
    conv = onnx.helper.make_node(
        "Conv", ["narrow.act", *(t.name for t in tensors)], ["narrow"], pads=[tensors[0].dims[-1] // 2] * 4, name="narrow"
    )
    nodes = [
        onnx.helper.make_node("PRelu", [shuffle.input[0], act.input[1]], ["narrow.act"]),
        conv,
        onnx.helper.make_node("DepthToSpace", ["narrow"], list(tail.output), blocksize=factor, mode="CRD"),
    ]
    return _replaced(model, (shuffle, act, tail), nodes, tensors)


def before_shuffle(weight: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return filters (o * f * f, c * f * f, n, n) that do in front of PixelShuffle(f) what ``weight`` (o, c, k, k) does behind.

    ``k`` is odd, and both convolutions keep the size.
    """
    out, channels, side = weight.shape[:3]
    half = side // 2
    reach = -(-half // factor)
    made = np.zeros((out, factor, factor, channels, factor, factor, 2 * reach + 1, 2 * reach + 1), np.float32)
    for a, b, y, x in np.ndindex(factor, factor, side, side):
        (u, p), (v, q) = divmod(a + y - half, factor), divmod(b + x - half, factor)
        made[:, a, b, :, p, q, u + reach, v + reach] = weight[:, :, y, x]
    return made.reshape(out * factor**2, channels * factor**2, *made.shape[-2:])


def _replaced(
    model: onnx.ModelProto, old: tuple[NodeProto, ...], new: list[NodeProto], tensors: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """Return a copy of ``model`` with ``new`` nodes where the last of the ``old`` ones was, and ``tensors`` beside its own."""
    gone = {output for node in old for output in node.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for node in model.graph.node:
        if node.output[0] == old[-1].output[0]:
            copy.graph.node.extend(new)
        elif node.output[0] not in gone:
            copy.graph.node.append(node)
    copy.graph.initializer.extend(tensors)
    return copy

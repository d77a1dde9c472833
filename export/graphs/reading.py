"""What can be read off a graph: convolutions, halo, multiplications; and a graph with its card as bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import onnx

from sr_deploy import thresholds
from sr_deploy.card import KEY, ModelCard, seal
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes

OUTPUT_KEY = thresholds.OUTPUT_KEY
KEEPS_PIXELS = frozenset(
    {
        "Relu",
        "Add",
        "Mul",
        "PRelu",
        "LeakyRelu",
        "Sub",
        "Div",
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
        "Clip",
        "Tanh",
        "Identity",
    }
)


@dataclass(frozen=True)
class Reach:
    """How far a value sees: ``halo`` input pixels, at ``factor`` output pixels per input pixel."""

    halo: Fraction
    factor: Fraction


def convolution_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions in the order they run."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def residual_outputs(model: onnx.ModelProto) -> dict[str, str]:
    """Return the output value of each convolution that ends a residual block, by its name.

    Such a convolution reads an activation and is read by one addition alone, which does not make the picture. Its output is a
    small correction to the stream, so it bears int8; that of a convolution that ends a long skip does not (docs/models.md).
    """
    made = {output: node.op_type for node in model.graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    last = model.graph.output[0].name
    return {
        node.name: node.output[0]
        for node in convolution_nodes(model)
        if made.get(node.input[0]) in ("Relu", "PRelu")
        and [user.op_type for user in users.get(node.output[0], [])] == ["Add"]
        and users[node.output[0]][0].output[0] != last
    }


def halo(model: onnx.ModelProto) -> int:
    """Return how many input pixels around an output pixel influence it.

    Raises:
        InputError: the graph has an operator whose reach is not known.
    """
    reach = {model.graph.input[0].name: Reach(Fraction(0), Fraction(1))}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        found = [reach[name] for name in node.input if name in reach]
        if not found:
            continue
        before = Reach(max(r.halo for r in found), found[0].factor)
        if node.op_type == "Resize":
            reach[node.output[0]] = _reach_behind_resize(node, before, constants)
        else:
            reach[node.output[0]] = _reach_after(node, before)
    return math.ceil(reach[model.graph.output[0].name].halo)


def macs_by_convolution(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiplications of each convolution for one run, by its name."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.name: math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        for node in convolution_nodes(model)
        if node.input[1] in weights
    }


def value_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the size of every float32 value of a graph in bytes, those of its input and its output among them."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name: 4 * math.prod(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}


def digest_of(model: onnx.ModelProto) -> str:
    """Return the digest of a graph without its card."""
    return digest_bytes(model.SerializeToString(deterministic=True))


def serialize(model: onnx.ModelProto, card: ModelCard, *, source: str) -> bytes:
    """Return the file content: ``model`` with ``card`` in its ``metadata_props``, sealed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    onnx.helper.set_model_props(copy, {KEY: card.with_changes().to_json()})
    return seal(copy.SerializeToString(deterministic=True), source=source)


def _reach_behind_resize(node: onnx.NodeProto, before: Reach, constants: Mapping[str, onnx.TensorProto]) -> Reach:
    """Return how far bilinear enlargement by one whole factor sees: one pixel."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    kind = (attributes.get("mode"), attributes.get("coordinate_transformation_mode", b"half_pixel"))
    scales = constants.get(node.input[2]) if len(node.input) == 3 else None
    factors = [] if scales is None else onnx.numpy_helper.to_array(scales).tolist()
    if kind != (b"linear", b"half_pixel") or factors[:2] != [1.0, 1.0] or len(set(factors[2:])) != 1 or factors[2] % 1.0:
        raise InputError(f"node {node.name}: how far this Resize reaches is not known, so tiles could not be exact")
    return Reach(before.halo + 1 / before.factor, before.factor * int(factors[2]))


def _reach_after(node: onnx.NodeProto, before: Reach) -> Reach:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        kernel = attributes["kernel_shape"]
        dilations, strides = attributes.get("dilations", [1, 1]), attributes.get("strides", [1, 1])
        step = max((k - 1) * d for k, d in zip(kernel, dilations, strict=True))
        return Reach(before.halo + Fraction(step, 2) / before.factor, before.factor / strides[0])
    if node.op_type == "DepthToSpace":
        return Reach(before.halo, before.factor * attributes["blocksize"])
    if node.op_type in KEEPS_PIXELS or (node.op_type == "Gather" and attributes.get("axis") == 1):  # of whole channels
        return before
    raise InputError(f"node {node.name}: how far {node.op_type} reaches is not known, so tiles could not be exact")

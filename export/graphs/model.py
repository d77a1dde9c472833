"""What an exported graph looks like: one float32 input, one float32 output, opset 17, IR 8. Needs no torch."""

from __future__ import annotations

import onnx

from sr_deploy.card import Shape

OPSET = 17
IR_VERSION = 8
INPUT, OUTPUT = "input", "output"


def make_model(
    nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], input_shape: Shape, output_shape: Shape, *, opset: int = OPSET
) -> onnx.ModelProto:
    """Return a checked model with one float32 input and one float32 output."""
    graph = onnx.helper.make_graph(
        nodes,
        "sr_deploy",
        [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, input_shape)],
        [onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, output_shape)],
        tensors,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    model.producer_name = "sr-deploy"
    onnx.checker.check_model(model, full_check=True)
    return model


def shapes_of(model: onnx.ModelProto) -> tuple[Shape, Shape]:
    """Return the input and output shape."""
    return shape_of(model.graph.input[0]), shape_of(model.graph.output[0])


def shape_of(value: onnx.ValueInfoProto) -> Shape:
    """Return the shape of an input or output."""
    n, c, h, w = (d.dim_value for d in value.type.tensor_type.shape.dim)
    return n, c, h, w

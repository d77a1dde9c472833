"""Small networks in int8 and with the enlargement inside, beside those of :mod:`tests.runtime.tiny_onnx`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard, Shape, seal
from tests.runtime import tiny_onnx as tiny
from tests.runtime.tiny_onnx import block, ints, node, number, tensor, value_info

INT8 = 3  # TensorProto.DataType
STEPS = (1 / 64, 1 / 32, 1 / 32, 1 / 256)  # of the values in front of each convolution and behind the last


def int8_tensor(name: str, values: NDArray[np.int8]) -> bytes:
    """Return an int8 TensorProto."""
    return b"".join(number(1, d) for d in values.shape) + number(2, INT8) + block(8, name) + block(9, values.tobytes())


def write_int8(path: Path, weights: tiny.Weights, shape: Shape) -> Path:
    """Write ``input + chain(input)`` with every convolution in int8, one step a tensor, three convolutions; return its path."""
    nodes, tensors, value = [], [int8_tensor("zero", np.zeros((), np.int8))], "input"
    for index, w in enumerate(weights, start=1):
        step = np.float32(np.abs(w).max() / 127)
        quantized = np.clip(np.rint(w / step), -127, 127).astype(np.int8)
        tensors += [
            tensor(f"step{index}", np.asarray(STEPS[index - 1], np.float32)),
            int8_tensor(f"conv{index}.weight", quantized),
        ]
        tensors.append(tensor(f"weight_step{index}", np.asarray(step, np.float32)))
        nodes += pair(value, index)
        nodes.append(node("DequantizeLinear", [f"conv{index}.weight", f"weight_step{index}", "zero"], f"weight{index}"))
        attributes = [ints("kernel_shape", (3, 3)), ints("pads", (1, 1, 1, 1))]
        nodes.append(node("Conv", [f"in{index}", f"weight{index}"], f"sum{index}", attributes, name=f"conv{index}"))
        value = f"sum{index}"
        if index < len(weights):
            nodes.append(node("Relu", [value], f"relu{index}"))
            value = f"relu{index}"
    last = len(weights) + 1
    tensors.append(tensor(f"step{last}", np.asarray(STEPS[-1], np.float32)))
    nodes += [*pair(value, last), node("Add", ["input", f"in{last}"], "output")]
    return _written(path, nodes, tensors, tiny.card_of(weights, shape))


def pair(value: str, index: int) -> list[bytes]:
    """Return the nodes that quantize ``value`` and make floats of it again."""
    return [
        node("QuantizeLinear", [value, f"step{index}", "zero"], f"q{index}"),
        node("DequantizeLinear", [f"q{index}", f"step{index}", "zero"], f"in{index}"),
    ]


def write_inside(path: Path, weights: tiny.Weights, shape: Shape) -> Path:
    """Write a chain of convolutions, the last with four outputs, that DepthToSpace makes a picture of twice the size."""
    nodes, tensors, value = [], [], "input"
    for index, w in enumerate(weights, start=1):
        tensors.append(tensor(f"conv{index}.weight", w))
        attributes = [ints("kernel_shape", (3, 3)), ints("pads", (1, 1, 1, 1))]
        nodes.append(node("Conv", [value, f"conv{index}.weight"], f"sum{index}", attributes, name=f"conv{index}"))
        value = f"sum{index}"
        if index < len(weights):
            nodes.append(node("Relu", [value], f"relu{index}"))
            value = f"relu{index}"
    blocks = block(1, "blocksize") + number(3, 2) + number(20, tiny.INT)
    nodes.append(node("DepthToSpace", [value], "output", [blocks]))
    out = (*shape[:2], 2 * shape[2], 2 * shape[3])
    card = tiny.card_of(weights, shape).with_changes(upscale="inside", scales=(2,), output_shape=out)
    return _written(path, nodes, tensors, card)


def chain(*widths: int, seed: int = 0) -> tiny.Weights:
    """Return random weights of 3x3 convolutions, for one channel in."""
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.standard_normal((n_out, n_in, 3, 3)) * np.sqrt(2.0 / (9 * n_in))).astype(np.float32)
        for n_in, n_out in pairwise((1, *widths))
    )


def _written(path: Path, nodes: list[bytes], tensors: list[bytes], card: ModelCard) -> Path:
    assert card.input_shape is not None and card.output_shape is not None
    body = b"".join(block(1, n) for n in nodes) + block(2, "tiny") + b"".join(block(5, t) for t in tensors)
    graph = body + block(11, value_info("input", card.input_shape)) + block(12, value_info("output", card.output_shape))
    path.write_bytes(seal(tiny.model_of(graph, card.to_json()), source=path.name))
    return path

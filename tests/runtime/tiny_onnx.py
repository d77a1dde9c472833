"""ONNX files of small networks, written by hand: real graphs where neither torch nor onnx is installed.

Protocol Buffers wire format with the field numbers of onnx.proto (IR version 8). A network is a chain of 3x3
convolutions with ReLU between them, its input added to its output, as VDSR is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import KEY, ModelCard, Shape, seal

Weights = tuple[NDArray[np.float32], ...]
"""One (out, in, 3, 3) array for each convolution; the last has one output."""

FLOAT = 1
INT, TENSOR, GRAPH, INTS = 2, 4, 5, 7  # AttributeProto.type


def varint(value: int) -> bytes:
    """Return a base-128 number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return a numeric field."""
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes | str) -> bytes:
    """Return a length-delimited field."""
    raw = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def entry(key: str, value: str) -> bytes:
    """Return a StringStringEntryProto."""
    return block(1, key) + block(2, value)


def tensor(name: str, values: NDArray[np.float32], *, external: str | None = None) -> bytes:
    """Return a TensorProto, its values inside or in the file ``external``."""
    head = b"".join(number(1, d) for d in values.shape) + number(2, FLOAT) + block(8, name)
    if external is None:
        return head + block(9, values.astype("<f4").tobytes())
    return head + block(13, entry("location", external)) + number(14, 1)


def node(kind: str, inputs: Sequence[str], output: str, attributes: Sequence[bytes] = (), *, name: str = "") -> bytes:
    """Return a NodeProto."""
    parts = [block(1, i) for i in inputs] + [block(2, output), block(3, name or output), block(4, kind)]
    return b"".join(parts + [block(5, a) for a in attributes])


def ints(name: str, values: Sequence[int]) -> bytes:
    """Return an AttributeProto that holds a list of integers."""
    return block(1, name) + b"".join(number(8, v) for v in values) + number(20, INTS)


def value_info(name: str, shape: Shape) -> bytes:
    """Return a ValueInfoProto of a float tensor."""
    dims = b"".join(block(1, number(1, d)) for d in shape)
    return block(1, name) + block(2, block(1, number(1, FLOAT) + block(2, dims)))


def graph_of(
    weights: Weights, shape: Shape, *, offset: float | None = None, external: str | None = None, extra: bytes = b""
) -> bytes:
    """Return a GraphProto: ``input + chain(input)``, plus ``offset`` if given; conv1 has its weights in ``external``."""
    nodes, tensors, value = [], [], "input"
    for index, w in enumerate(weights, start=1):
        tensors.append(tensor(f"conv{index}.weight", w, external=external if index == 1 else None))
        attributes = [ints("kernel_shape", (3, 3)), ints("pads", (1, 1, 1, 1))]
        nodes.append(node("Conv", [value, f"conv{index}.weight"], f"conv{index}.output", attributes, name=f"conv{index}"))
        value = f"conv{index}.output"
        if index < len(weights):
            nodes.append(node("Relu", [value], f"relu{index}"))
            value = f"relu{index}"
    if offset is None:
        nodes.append(node("Add", ["input", value], "output"))
    else:
        tensors.append(tensor("offset", np.full((1, 1, 1, 1), offset, np.float32)))
        nodes += [node("Add", ["input", value], "sum"), node("Add", ["sum", "offset"], "output")]
    body = b"".join(block(1, n) for n in nodes) + block(2, "tiny") + b"".join(block(5, t) for t in tensors)
    return body + block(11, value_info("input", shape)) + block(12, value_info("output", shape)) + extra


def model_of(graph: bytes, card: str | None, *, extra: bytes = b"") -> bytes:
    """Return a ModelProto (opset 17, IR 8) with ``card`` as the model card's JSON."""
    metadata = b"" if card is None else block(14, entry(KEY, card))
    return number(1, 8) + block(2, "tests") + block(7, graph) + block(8, block(1, "") + number(2, 17)) + metadata + extra


def card_of(weights: Weights, shape: Shape) -> ModelCard:
    """Return the unsealed card of such a network."""
    return ModelCard(
        arch="vdsr",
        widths=tuple(len(w) for w in weights),
        scales=(2, 3, 4),
        default_scale=2,
        halo=len(weights),
        layers={f"conv{n}": "fp32" for n in range(1, len(weights) + 1)},
        input_shape=shape,
        output_shape=shape,
        opset=17,
    )


def write(path: Path, weights: Weights, shape: Shape, *, offset: float | None = None, **card_changes: object) -> Path:
    """Write a sealed graph and return its path."""
    card = card_of(weights, shape).with_changes(**card_changes)
    path.write_bytes(seal(model_of(graph_of(weights, shape, offset=offset), card.to_json()), source=path.name))
    return path


def random_weights(widths: Sequence[int], seed: int = 0) -> Weights:
    """Return weights that keep magnitudes about level through the ReLUs; the residual is about a tenth of the input."""
    rng = np.random.default_rng(seed)
    channels = [1, *widths]
    found = [
        (rng.standard_normal((n_out, n_in, 3, 3)) * np.sqrt(2.0 / (9 * n_in))).astype(np.float32)
        for n_in, n_out in pairwise(channels)
    ]
    found[-1] *= np.float32(0.1)
    return tuple(found)


def zero_weights(widths: Sequence[int]) -> Weights:
    """Return weights with which the network returns its input."""
    return tuple(np.zeros_like(w) for w in random_weights(widths))


def sharpening_weights(depth: int = 3, strength: float = 0.08) -> Weights:
    """Return a network that subtracts a Laplacian: second differences in four directions, split by sign into 8 channels."""
    first = np.zeros((8, 1, 3, 3), np.float32)
    for direction, (dy, dx) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
        for sign in (0, 1):
            kernel = first[2 * direction + sign, 0]
            kernel[1, 1] = -2.0
            kernel[1 + dy, 1 + dx] = kernel[1 - dy, 1 - dx] = 1.0
            kernel *= 1 - 2 * sign
    inner = [np.zeros((8, 8, 3, 3), np.float32) for _ in range(depth - 2)]
    for index, kernels in enumerate(inner, start=1):
        kernels[:, :, 1, 1] = np.eye(8) + 0.02 * index
    last = np.zeros((1, 8, 3, 3), np.float32)
    last[0, :, 1, 1] = strength * np.array([-1, 1] * 4)
    return (first, *inner, last)

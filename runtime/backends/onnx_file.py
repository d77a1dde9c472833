"""Reading what must be known of an ``.onnx`` file without the onnx package: its model card, outside files, nodes and weights.

The ONNX format is a Protocol Buffers message (onnx.proto, IR version 8); only a few fields matter here, and reading them
from the wire format keeps the run-time free of the onnx package.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import KEY, ModelCard, card_from_json, check_seal
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTION = 7, 14, 20, 25
TRAINING_GRAPHS, FUNCTION_NODE = (1, 2), 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 12, 15
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND = 1, 2, 3, 4
VALUE_NAME, VALUE_TYPE, TYPE_TENSOR, TENSOR_ELEMENT, FLOAT = 1, 2, 1, 1, 1
SPARSE_TENSORS = (1, 2)  # values, indices
NODE_ATTRIBUTE, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = 5, (5, 10), (6, 11), (22, 23)
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL = 1, 2, 8, 9, 13
TYPES = {1: np.float32, 3: np.int8, 10: np.float16}  # TensorProto.DataType
ENTRY_KEY, ENTRY_VALUE = 1, 2


def read_card(path: Path) -> ModelCard:
    """Return the card of an ``.onnx`` file after checking its seal and that no data lies outside its folder.

    Raises:
        InputError: not an ONNX file, no card, changed since it was made, or external data outside its folder.
    """
    content = read_bytes(path, advice="name an .onnx made by sr-export")
    try:
        metadata = dict(_entry(entry) for entry in _messages(content, MODEL_METADATA))
        locations = list(_external_locations(content))
    except (ValueError, IndexError) as err:
        raise InputError(f"{path}: not an ONNX model ({err}); it is truncated or another kind of file") from err
    folder = Path(os.path.realpath(path)).parent
    for location in locations:
        if not _inside(folder, location):
            raise InputError(f"{path}: keeps data in {location!r}, outside its folder; only files beside the model are read")
    if KEY not in metadata:
        raise InputError(f"{path}: holds no model card; export it with sr-export")
    card = card_from_json(metadata[KEY], source=str(path))
    check_seal(content, card.digest, source=str(path))
    return card


def _inside(folder: Path, location: str) -> bool:
    try:
        return (folder / location).resolve(strict=False).is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL in the name
        return False


@dataclass(frozen=True)
class Node:
    """One operation of a graph."""

    kind: str  # operator type, as "Conv"
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The nodes of a graph in order, and its float32, float16 and int8 initializers in their own shape and type."""

    nodes: tuple[Node, ...]
    tensors: dict[str, NDArray[np.generic]]

    @property
    def convolutions(self) -> dict[str, Node]:
        """The convolutions by name."""
        return {node.name: node for node in self.nodes if node.kind == "Conv"}

    def maker(self, value: str) -> Node | None:
        """Return the node that makes ``value``, ``None`` for an input or initializer."""
        return next((node for node in self.nodes if value in node.outputs), None)


def read_graph(path: Path) -> Graph:
    """Return the graph of an ``.onnx`` file.

    Raises:
        InputError: not an ONNX file.
    """
    content = read_bytes(path, advice="name an .onnx made by sr-export")
    try:
        graphs = list(_messages(content, MODEL_GRAPH))
        nodes = tuple(_node(message) for graph in graphs for message in _messages(graph, GRAPH_NODE))
        tensors = (_tensor(message) for graph in graphs for message in _messages(graph, GRAPH_INITIALIZER))
        return Graph(nodes, dict(found for found in tensors if found is not None))
    except (ValueError, IndexError, KeyError) as err:
        raise InputError(f"{path}: not an ONNX model ({err}); it is truncated or another kind of file") from err


def with_outputs(model: bytes, values: Iterable[str]) -> bytes:
    """Return a serialized model that also gives out the float32 ``values``, behind its own outputs.

    Messages that are written one after the other are merged when they are read (Protocol Buffers encoding, "Last One Wins"):
    the outputs of the added graph are appended to those of the first.
    """
    kind = _block(VALUE_TYPE, _block(TYPE_TENSOR, bytes([TENSOR_ELEMENT << 3, FLOAT])))
    added = b"".join(_block(GRAPH_OUTPUT, _block(VALUE_NAME, value.encode()) + kind) for value in values)
    return model + _block(MODEL_GRAPH, added)


def _block(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _node(message: bytes) -> Node:
    texts: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], NODE_NAME: [""], NODE_KIND: [""]}
    for number, value in _fields(message):
        if number in texts and isinstance(value, bytes):
            texts[number].append(value.decode())
    return Node(texts[NODE_KIND][-1], texts[NODE_NAME][-1], tuple(texts[NODE_INPUT]), tuple(texts[NODE_OUTPUT]))


def _tensor(message: bytes) -> tuple[str, NDArray[np.generic]] | None:
    texts: dict[int, bytes] = {}
    dims: list[int] = []
    kind = 0
    for number, value in _fields(message):
        if isinstance(value, bytes):
            if number == TENSOR_DIMS:  # packed
                dims += _varints(value)
            texts[number] = value
        elif number == TENSOR_DIMS:
            dims.append(value)
        elif number == TENSOR_TYPE:
            kind = value
    if kind not in TYPES or TENSOR_RAW not in texts:
        return None
    return texts[TENSOR_NAME].decode(), np.frombuffer(texts[TENSOR_RAW], TYPES[kind]).reshape(dims)


def _external_locations(model: bytes) -> Iterator[str]:
    for graph in _messages(model, MODEL_GRAPH):
        yield from _graph_locations(graph)
    for training in _messages(model, MODEL_TRAINING):
        for graph in _any_of(training, TRAINING_GRAPHS):
            yield from _graph_locations(graph)
    for function in _messages(model, MODEL_FUNCTION):
        yield from _node_locations(function, FUNCTION_NODE)


def _graph_locations(graph: bytes) -> Iterator[str]:
    for tensor in _messages(graph, GRAPH_INITIALIZER):
        yield from _tensor_locations(tensor)
    for sparse in _messages(graph, GRAPH_SPARSE):
        yield from _sparse_locations(sparse)
    yield from _node_locations(graph, GRAPH_NODE)


def _node_locations(owner: bytes, number: int) -> Iterator[str]:
    for node in _messages(owner, number):
        for attribute in _messages(node, NODE_ATTRIBUTE):
            for tensor in _any_of(attribute, ATTRIBUTE_TENSORS):
                yield from _tensor_locations(tensor)
            for sparse in _any_of(attribute, ATTRIBUTE_SPARSE):
                yield from _sparse_locations(sparse)
            for inner in _any_of(attribute, ATTRIBUTE_GRAPHS):
                yield from _graph_locations(inner)


def _sparse_locations(sparse: bytes) -> Iterator[str]:
    for tensor in _any_of(sparse, SPARSE_TENSORS):
        yield from _tensor_locations(tensor)


def _any_of(message: bytes, numbers: tuple[int, ...]) -> Iterator[bytes]:
    return (value for found, value in _fields(message) if found in numbers and isinstance(value, bytes))


def _tensor_locations(tensor: bytes) -> Iterator[str]:
    for entry in _messages(tensor, TENSOR_EXTERNAL):
        key, value = _entry(entry)
        if key == "location":
            yield value


def _entry(message: bytes) -> tuple[str, str]:
    texts = {number: value.decode() for number, value in _fields(message) if isinstance(value, bytes)}
    return texts.get(ENTRY_KEY, ""), texts.get(ENTRY_VALUE, "")


def _messages(message: bytes, number: int) -> Iterator[bytes]:
    return (value for found, value in _fields(message) if found == number and isinstance(value, bytes))


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield (field number, content): bytes of length-delimited fields, integers of varints; fixed-size ones are skipped."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 2:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError("a field is longer than the file")
            yield tag >> 3, message[position : position + size]
            position += size
        elif kind == 0:
            value, position = _varint(message, position)
            yield tag >> 3, value
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")


def _varints(packed: bytes) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")

"""Reading what must be known of an ``.onnx`` file before a backend opens it: its model card and its outside files.

The ONNX format is a Protocol Buffers message (onnx.proto, IR version 8); only four fields matter here, and reading them
from the wire format keeps the run-time free of the onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import KEY, ModelCard, card_from_json, check_seal
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTION = 7, 14, 20, 25
TRAINING_GRAPHS, FUNCTION_NODE = (1, 2), 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
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
    folder = path.resolve().parent
    for location in locations:
        if not _inside(folder, location):
            raise InputError(f"{path}: keeps data in {location!r}, outside its folder; only files beside the model are read")
    if KEY not in metadata:
        raise InputError(f"{path}: holds no model card; export it with sr-export")
    card = card_from_json(metadata[KEY], source=str(path))
    check_seal(content, card, source=str(path))
    return card


def _inside(folder: Path, location: str) -> bool:
    try:
        return (folder / location).resolve(strict=False).is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL in the name
        return False


def read_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the graph's float32, float16 and int8 initializers by name, in their own shape and type.

    Raises:
        InputError: not an ONNX file.
    """
    content = read_bytes(path, advice="name an .onnx made by sr-export")
    try:
        tensors = [t for graph in _messages(content, MODEL_GRAPH) for t in _messages(graph, GRAPH_INITIALIZER)]
        return dict(found for tensor in tensors if (found := _tensor(tensor)) is not None)
    except (ValueError, IndexError) as err:
        raise InputError(f"{path}: not an ONNX model ({err}); it is truncated or another kind of file") from err


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

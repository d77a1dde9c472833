"""Reading what must be known of an ``.onnx`` file without the onnx package: its model card, outside files, nodes and weights.

The ONNX format is a Protocol Buffers message. protobuf, which ONNX Runtime brings along, reads it by the part of onnx.proto (IR
version 8) that matters here; what it does not name is kept as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from sr_deploy.card import KEY, ModelCard, card_from_json, check_seal
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes

SCHEMA = {  # of each message its fields: number, type, and a star where there may be several
    "Model": {
        **{"ir_version": "1 int64", "graph": "7 Graph", "opset_import": "8 Opset*", "metadata_props": "14 Entry*"},
        **{"training_info": "20 Training*", "functions": "25 Function*"},
    },
    "Opset": {"version": "2 int64"},
    "Training": {"initialization": "1 Graph", "algorithm": "2 Graph"},
    "Function": {"node": "7 Node*"},
    "Graph": {
        **{"node": "1 Node*", "name": "2 string", "initializer": "5 Tensor*", "input": "11 Value*", "output": "12 Value*"},
        "sparse_initializer": "15 Sparse*",
    },
    "Node": {"input": "1 string*", "output": "2 string*", "name": "3 string", "op_type": "4 string", "attribute": "5 Attribute*"},
    "Attribute": {
        **{"t": "5 Tensor", "tensors": "10 Tensor*", "g": "6 Graph", "graphs": "11 Graph*"},
        **{"sparse_tensor": "22 Sparse", "sparse_tensors": "23 Sparse*"},
    },
    "Tensor": {
        **{"dims": "1 int64*", "data_type": "2 int32", "name": "8 string", "raw_data": "9 bytes"},
        "external_data": "13 Entry*",
    },
    "Sparse": {"values": "1 Tensor", "indices": "2 Tensor"},
    "Value": {"name": "1 string", "type": "2 Type"},
    "Type": {"tensor_type": "1 TensorType"},
    "TensorType": {"elem_type": "1 int32"},
    "Entry": {"key": "1 string", "value": "2 string"},
}
TYPES = {1: np.float32, 3: np.int8, 10: np.float16}  # TensorProto.DataType


def _model_class() -> type[Message]:
    """Return the class of models, of a package of its own: the onnx package has its classes beside it."""
    file = FileDescriptorProto(name="sr_deploy/onnx.proto", package="sr_deploy.onnx", syntax="proto3")
    for message, fields in SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, text in fields.items():
            number, kind = text.rstrip("*").split()
            label = FieldDescriptorProto.LABEL_REPEATED if text.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
            field = described.field.add(name=name, number=int(number), label=label)
            if kind in SCHEMA:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".sr_deploy.onnx.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    found: type[Message] = GetMessageClass(pool.FindMessageTypeByName("sr_deploy.onnx.Model"))
    return found


MODEL = _model_class()


def read_card(path: Path) -> ModelCard:
    """Return the card of an ``.onnx`` file after checking its seal and that no data lies outside its folder.

    Raises:
        InputError: not an ONNX file, no card, changed since it was made, or external data outside its folder.
    """
    content, model = _read(path)
    folder = Path(os.path.realpath(path)).parent
    for location in _external_locations(model):
        if not _inside(folder, location):
            raise InputError(f"{path}: keeps data in {location!r}, outside its folder; only files beside the model are read")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in metadata:
        raise InputError(f"{path}: holds no model card; export it with sr-export")
    card = card_from_json(metadata[KEY], source=str(path))
    check_seal(content, card.digest, source=str(path))
    return card


def _read(path: Path) -> tuple[bytes, Message]:
    content = read_bytes(path, advice="name an .onnx made by sr-export")
    try:
        return content, MODEL.FromString(content)
    except DecodeError as err:
        reason = " ".join(str(err).split())
        raise InputError(f"{path}: not an ONNX model ({reason}); it is truncated or another kind of file") from err


def _inside(folder: Path, location: str) -> bool:
    try:
        return (folder / location).resolve(strict=False).is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL in the name
        return False


def _external_locations(message: Message) -> Iterator[str]:
    """Yield where a message, or any inside it, keeps data: of tensors in graphs, attributes, functions and training alike."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                if field.name != "external_data":
                    yield from _external_locations(part)
                elif part.key == "location":
                    yield part.value


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
    _, model = _read(path)
    nodes = (Node(node.op_type, node.name, tuple(node.input), tuple(node.output)) for node in model.graph.node)
    known = (tensor for tensor in model.graph.initializer if tensor.data_type in TYPES and tensor.raw_data)
    try:
        tensors = {t.name: np.frombuffer(t.raw_data, TYPES[t.data_type]).reshape(tuple(t.dims)) for t in known}
    except ValueError as err:
        raise InputError(f"{path}: not an ONNX model ({err}); it is truncated or another kind of file") from err
    return Graph(tuple(nodes), tensors)

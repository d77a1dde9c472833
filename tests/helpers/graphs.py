"""Graphs of small networks, made once a process: torch's exporter takes a second for each."""

from __future__ import annotations

import hashlib
from io import BytesIO

import onnx
import torch
from torch import nn

from sr_deploy.card import Shape
from sr_deploy.export.graphs.to_onnx import graph_from_network

_MADE: dict[tuple[str, Shape], bytes] = {}


def cached_graph(network: nn.Module, shape: Shape) -> onnx.ModelProto:
    """Return what ``graph_from_network`` returns, a new model, from memory where weights, structure and shape are known."""
    stream = BytesIO()
    torch.save(network, stream)  # with every attribute of every module
    key = hashlib.sha256(stream.getvalue()).hexdigest(), shape
    if key not in _MADE:
        _MADE[key] = graph_from_network(network, shape).SerializeToString()
    model = onnx.ModelProto()
    model.ParseFromString(_MADE[key])
    return model

"""Graphs of small networks, made once a process because torch's exporter takes a second for each, and what they compute."""

from __future__ import annotations

import hashlib
from io import BytesIO

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from sr_deploy.card import Shape
from sr_deploy.export.graphs.to_onnx import graph_from_network

Floats = NDArray[np.float32]
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


def outputs(model: onnx.ModelProto, tiles: Floats, watch: tuple[str, ...] = (), *, optimize: bool = False) -> list[Floats]:
    """Return the output and the integer values ``watch``; operators run one by one as the standard has them by default."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None) for name in watch)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Floats] = session.run(None, {"input": tiles})
    return found

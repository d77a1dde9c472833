"""A network as an ONNX graph with nothing in it that differs between two exports.

torch's exporter leaves stack traces with absolute paths in node metadata and numbers nodes by a process-wide counter.
Here names are made from what the graph is: a convolution has the name of its module, every other node its type and its
place, a value the name of the node that makes it.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import onnx
import torch
from torch import nn

from sr_deploy.card import Shape
from sr_deploy.errors import MachineError
from sr_deploy.export.graphs.model import INPUT, OPSET, OUTPUT, make_model, shape_of


def graph_from_network(network: nn.Module, shape: Shape) -> onnx.ModelProto:
    """Return the fp32 graph of ``network`` at a fixed input ``shape`` (n, c, h, w): opset 17, IR 8, no metadata.

    Raises:
        MachineError: the installed torch and onnx cannot export it to opset 17.
    """
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(network.eval(), (example,), dynamo=True, opset_version=OPSET, verbose=False)
    if program is None:
        raise MachineError("torch.onnx.export returned nothing; use torch 2.11 or later")
    model = program.model_proto
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("") != OPSET or model.functions:
        raise MachineError(f"torch {torch.__version__} exported opset {opsets}, needed is {OPSET}; use the pinned constraints")
    return normalize(model, execution_order(network, example))


def execution_order(network: nn.Module, example: torch.Tensor) -> list[str]:
    """Return the module paths of the convolutions in the order in which they run."""
    paths: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, path=path: paths.append(path))
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return paths


def normalize(model: onnx.ModelProto, paths: Sequence[str]) -> onnx.ModelProto:
    """Return a new model with canonical names and without metadata, debugging text and shapes of inner values.

    ``paths`` names the convolutions in the order they run. Each gets weights of its own: the exporter lets convolutions of equal
    weights share them.

    Raises:
        MachineError: the graph has another number of convolutions.
    """
    graph = model.graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    count = sum(node.op_type == "Conv" for node in graph.node)
    if count != len(paths):
        raise MachineError(f"the exported graph has {count} convolutions, the network {len(paths)}; use the pinned constraints")
    names = {graph.input[0].name: INPUT}
    nodes, seen, used = [], Counter[str](), dict[str, onnx.TensorProto]()
    convolutions = iter(paths)
    for node in graph.node:
        seen[node.op_type] += 1
        name = next(convolutions) if node.op_type == "Conv" else f"{node.op_type.lower()}{seen[node.op_type]}"
        for index, output in enumerate(node.output):
            last = output == graph.output[0].name
            names[output] = OUTPUT if last else f"{name}.output" + (str(index) if index else "")
        inputs = []
        for index, value in enumerate(node.input):
            if value in weights:
                own = f"{name}.{('input', 'weight', 'bias')[index]}" if node.op_type == "Conv" else f"{name}.constant{index}"
                used[own] = onnx.numpy_helper.from_array(weights[value], own)
                inputs.append(own)
            else:
                inputs.append(names[value] if value else "")
        copy = onnx.helper.make_node(node.op_type, inputs, [names[o] for o in node.output], name=name, domain=node.domain)
        copy.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
        for attribute in copy.attribute:
            attribute.doc_string = ""
        nodes.append(copy)
    tensors = sorted(used.values(), key=lambda t: t.name)
    return make_model(nodes, tensors, shape_of(graph.input[0]), shape_of(graph.output[0]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which reports on operators this project does not use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

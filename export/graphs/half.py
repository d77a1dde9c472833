"""The fp16 pass: float16 inside, float32 at the input and output, float32 islands where float16 could overflow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from sr_deploy.export.graphs.model import make_model, shapes_of

FP16_MAX = 65504.0
SAFETY = 4.0


def nodes_that_may_overflow(model: onnx.ModelProto, maxima: Mapping[str, float]) -> list[str]:
    """Return the nodes whose output, ``SAFETY`` times the largest magnitude seen, is beyond float16; they stay fp32.

    ``maxima`` gives the largest magnitude of each value over the calibration pictures.
    """
    large = {t.name for t in model.graph.initializer if np.abs(numpy_helper.to_array(t)).max(initial=0.0) > FP16_MAX}
    return [
        node.name
        for node in model.graph.node
        if any(not SAFETY * maxima.get(o, 0.0) <= FP16_MAX for o in node.output) or any(i in large for i in node.input)
    ]


def half_precision(model: onnx.ModelProto, *, keep: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Return a new model that computes in float16 except in the nodes named in ``keep``.

    Precondition: a float32 model from ``to_onnx``. Postcondition: input and output stay float32; casts stand only where
    precisions meet.
    """
    builder = _Builder(model, keep)
    for node in model.graph.node:
        builder.add(node)
    return make_model(builder.nodes, sorted(builder.tensors.values(), key=lambda t: t.name), *shapes_of(model))


class _Builder:
    def __init__(self, model: onnx.ModelProto, keep: frozenset[str]) -> None:
        self.keep = keep
        self.source = {t.name: t for t in model.graph.initializer}
        self.output = model.graph.output[0].name
        self.kinds = {model.graph.input[0].name: TensorProto.FLOAT}
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self.casts: dict[tuple[str, int], str] = {}

    def add(self, node: NodeProto) -> None:
        kind = TensorProto.FLOAT if node.name in self.keep else TensorProto.FLOAT16
        copy = NodeProto()
        copy.CopyFrom(node)
        # The factors of a Resize are float32 in every precision (ONNX, Resize-13).
        kinds = [TensorProto.FLOAT if node.op_type == "Resize" and index else kind for index in range(len(node.input))]
        copy.input[:] = [self._as(name, wanted) if name else "" for name, wanted in zip(node.input, kinds, strict=True)]
        self.nodes.append(copy)
        for index, name in enumerate(node.output):
            self.kinds[name] = kind
            if name == self.output and kind != TensorProto.FLOAT:
                copy.output[index] = f"{name}.half"
                self.nodes.append(_cast(f"{name}.half", name, TensorProto.FLOAT))

    def _as(self, name: str, kind: int) -> str:
        if name in self.source:
            return self._weight(name, kind)
        if self.kinds[name] == kind:
            return name
        if (name, kind) not in self.casts:
            target = f"{name}.{'half' if kind == TensorProto.FLOAT16 else 'single'}"
            self.nodes.append(_cast(name, target, kind))
            self.casts[name, kind] = target
        return self.casts[name, kind]

    def _weight(self, name: str, kind: int) -> str:
        tensor = self.source[name]
        if tensor.data_type == TensorProto.FLOAT and kind == TensorProto.FLOAT16:
            used = f"{name}.half"
            self.tensors[used] = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), used)
            return used
        self.tensors[name] = tensor
        return name


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)

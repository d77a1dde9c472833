"""Whether the thresholds in an int8 engine are those that its calibration recorded in its card.

A threshold twice too large costs no more than a few hundredths of a decibel on ten pictures: clipping less makes up for rounding
more, and the picture that would show it is the one not in the set. What photographs ask for is no measure either: on Set5
alone the right thresholds of a VDSR are 1.9 times too large. So what the graph holds is compared with what it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.runtime.backends.onnx_file import Graph, Node, read_graph
from sr_deploy.thresholds import OUTPUT_KEY, QMAX

PASSING = ("Relu", "LeakyRelu", "QuantizeLinear", "DequantizeLinear")  # on the way from a value to the convolution that reads it


def threshold_ratios(engine: Path, card: ModelCard) -> dict[str, float]:
    """Return each threshold of an engine over the one that its card records, by convolution: of several, the one furthest off.

    0: the card records none. Empty: not an int8 ``.onnx`` engine.
    """
    if engine.suffix != ".onnx" or card.precision != "int8":
        return {}
    found: dict[str, float] = {}
    for name, thresholds in thresholds_in(read_graph(engine)).items():
        recorded = card.thresholds.get(name, math.inf)
        found[name] = max((threshold / recorded for threshold in thresholds), key=off_by)
    return found


def off_by(ratio: float) -> float:
    """Return by what factor a ratio is off, in either direction: at least 1."""
    return max(ratio, 1.0 / ratio) if ratio > 0.0 else math.inf


def worst(ratios: Mapping[str, float]) -> tuple[float, str]:
    """Return the factor of the threshold furthest off, and its convolution."""
    name = max(ratios, key=lambda name: off_by(ratios[name]))
    return off_by(ratios[name]), name


def thresholds_in(graph: Graph) -> dict[str, list[float]]:
    """Return the thresholds of all values that are quantized, by the convolution that reads them.

    Those of a convolution's output that none reads, as at the end of a residual block, are called ``NAME.output``.
    """
    found: dict[str, list[float]] = {}
    for node in graph.nodes:
        if node.kind in ("QuantizeLinear", "DequantizeLinear") and node.inputs[0] not in graph.tensors:
            name = _name_of(graph, node)
            scale = graph.tensors[node.inputs[1]].astype(np.float64)
            found.setdefault(name, []).append(QMAX * float(scale.max()))
    return found


def _name_of(graph: Graph, node: Node) -> str:
    reader = _reader(graph, node.outputs[0])
    if reader is not None:
        return reader
    value = node.inputs[0]
    while (maker := graph.maker(value)) is not None and maker.kind in PASSING:
        value = maker.inputs[0]
    return f"{maker.name if maker else value}{OUTPUT_KEY}"


def _reader(graph: Graph, value: str) -> str | None:
    """Return the convolution that reads a value, past what only cuts or rounds it."""
    for node in graph.nodes:
        if node.inputs[:1] == (value,):
            if node.kind == "Conv":
                return node.name
            if node.kind in PASSING and (found := _reader(graph, node.outputs[0])):
                return found
    return None

"""Which thresholds an engine has, and how they compare with those in its card; without torch and onnx."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.card import ModelCard
from sr_deploy.gate.thresholds import off_by, threshold_ratios, thresholds_in, worst
from sr_deploy.runtime.backends.onnx_file import Graph, Node
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny


def card(**changes: object) -> ModelCard:
    return tiny.card_of(tiny.sharpening_weights(4), SHAPE).with_changes(**changes)


def pair(base: str, source: str) -> tuple[Node, Node]:
    inputs = (f"{base}.scale", f"{base}.zero")
    quantize = Node("QuantizeLinear", f"q.{base}", (source, *inputs), (f"{base}.quantized",))
    return quantize, Node("DequantizeLinear", f"d.{base}", (f"{base}.quantized", *inputs), (f"{base}.out",))


def scales(**values: float) -> dict[str, np.ndarray]:
    return {f"{name}.scale": np.array(value, np.float32) for name, value in values.items()}


def test_a_threshold_is_127_steps() -> None:
    nodes = (*pair("x", "input"), Node("Conv", "c", ("x.out", "w"), ("y",)))
    assert thresholds_in(Graph(nodes, scales(x=0.5))) == {"c": [63.5, 63.5]}


def test_weights_have_no_threshold() -> None:
    weight = Node("DequantizeLinear", "w", ("w.quantized", "w.scale"), ("w.out",))
    nodes = (weight, Node("Conv", "c", ("input", "w.out"), ("y",)))
    assert thresholds_in(Graph(nodes, {"w.quantized": np.zeros((1, 1, 3, 3), np.int8), **scales(w=1.0)})) == {}


@pytest.mark.parametrize("kind", ["Relu", "LeakyRelu"])
def test_the_output_of_a_convolution_has_the_threshold_of_the_next_one(kind: str) -> None:
    first = (Node("Conv", "b", ("input", "w"), ("v",)), *pair("v", "v"), Node(kind, "r", ("v.out",), ("z",)))
    behind = (*pair("z", "z"), Node("Conv", "c", ("z.out", "u"), ("y",)))
    assert thresholds_in(Graph((*first, *behind), scales(v=2.0, z=1.0))) == {"c": [254.0, 254.0, 127.0, 127.0]}
    floating = Node("Conv", "c", ("z", "u"), ("y",))
    assert thresholds_in(Graph((*first, floating), scales(v=2.0))) == {"c": [254.0, 254.0]}


def test_the_end_of_a_residual_block_has_a_threshold_of_its_own() -> None:
    nodes = (Node("Conv", "b", ("input", "w"), ("v",)), *pair("v", "v"), Node("Add", "a", ("input", "v.out"), ("y",)))
    assert thresholds_in(Graph(nodes, scales(v=1.0))) == {"b.output": [127.0, 127.0]}


@pytest.mark.parametrize("changes", [{}, {"precision": "fp16", "calibration": "kl"}])
def test_what_is_not_int8_has_none(reference: Path, changes: dict[str, object]) -> None:
    assert threshold_ratios(reference, card(**changes)) == {}


def test_a_plan_has_none(reference: Path) -> None:
    assert threshold_ratios(reference.with_suffix(".plan"), card(precision="int8")) == {}


def test_too_large_and_too_small_are_off_alike() -> None:
    assert (off_by(2.0), off_by(0.5), off_by(1.0), off_by(0.0)) == (2.0, 2.0, 1.0, math.inf)
    assert worst({"a": 1.0, "b": 0.25, "c": 3.0}) == (4.0, "b")

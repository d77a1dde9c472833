"""The passes for TensorRT change the graph's form and none of its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from sr_deploy.export.graphs.quantize import quantize
from sr_deploy.export.plans.graph import float_weights, half_remainder, pairs_behind_relus, with_batch
from tests.helpers.graphs import outputs

THRESHOLDS = {"conv1": 1.0, "conv2": 2.0, "conv3": 1.5, "conv4": 1.25}
Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=["ends kept", "all", "three kept", "conv3 reads floats"])
def int8(request: pytest.FixtureRequest, exported: Path) -> onnx.ModelProto:
    """Return an int8 graph of the small network, for several choices of what is kept."""
    fp32 = onnx.load(exported / "tiny_fp32.onnx")
    keep = {"ends kept": {"conv1", "conv4"}, "all": set(), "three kept": {"conv1", "conv3", "conv4"}}
    chosen = keep.get(request.param, {"conv1", "conv3"})
    thresholds = {n: t for n, t in THRESHOLDS.items() if request.param != "conv3 reads floats" or n != "conv3"}
    return quantize(fp32, thresholds, keep=chosen)


def tiles(n: int = 1) -> Floats:
    return np.random.default_rng(0).random((n, 1, 32, 32), np.float32)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def test_no_pair_stands_before_a_relu_and_nothing_changes(int8: onnx.ModelProto) -> None:
    found = pairs_behind_relus(int8)
    made = makers(found)
    relus = [node for node in found.graph.node if node.op_type == "Relu"]
    assert len(relus) == 3 and all(made[relu.input[0]].op_type == "Conv" for relu in relus)
    assert np.array_equal(outputs(found, tiles())[0], outputs(int8, tiles())[0])


def test_what_read_integers_still_does(int8: onnx.ModelProto) -> None:
    def readers(model: onnx.ModelProto) -> dict[str, bool]:
        made = makers(model)

        def quantized_input(node: onnx.NodeProto) -> bool:
            maker = made.get(node.input[0])
            if maker is not None and maker.op_type in ("Relu", "LeakyRelu"):
                maker = made[maker.input[0]]
            return maker is not None and maker.op_type == "DequantizeLinear"

        return {node.name: quantized_input(node) for node in model.graph.node if node.op_type == "Conv"}

    assert readers(pairs_behind_relus(int8)) == readers(int8)


def test_pairs_are_not_doubled(int8: onnx.ModelProto) -> None:
    found = pairs_behind_relus(int8)
    made = makers(found)
    for node in found.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in made:
            assert made[node.input[0]].op_type != "DequantizeLinear"
    assert kinds(found).count("QuantizeLinear") <= kinds(int8).count("QuantizeLinear")


def test_float_weights_have_equal_values(int8: onnx.ModelProto) -> None:
    found = float_weights(int8)
    sizes = {t.name: t.data_type for t in found.graph.initializer if len(t.dims) == 4}
    assert sizes and all(kind == TensorProto.FLOAT for kind in sizes.values())
    assert np.array_equal(outputs(found, tiles())[0], outputs(int8, tiles())[0])


def test_the_remainder_is_float16_and_opset_19(int8: onnx.ModelProto) -> None:
    found = half_remainder(pairs_behind_relus(int8))
    assert found.opset_import[0].version == 19
    assert not [t.name for t in found.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert (kinds(found)[0], kinds(found)[-1]) == ("Cast", "Cast")
    for value in (found.graph.input[0], found.graph.output[0]):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


def test_the_scales_lose_nothing_in_float16(int8: onnx.ModelProto) -> None:
    before = {t.name: numpy_helper.to_array(t) for t in int8.graph.initializer if t.name.endswith(".scale")}
    found = {t.name: numpy_helper.to_array(t) for t in half_remainder(int8).graph.initializer if t.name.endswith(".scale")}
    assert before.keys() == found.keys()
    assert all(np.array_equal(found[name].astype(np.float32), before[name]) for name in before)


def test_the_float16_remainder_computes_the_same_up_to_float16(int8: onnx.ModelProto) -> None:
    found, expected = outputs(half_remainder(pairs_behind_relus(int8)), tiles())[0], outputs(int8, tiles())[0]
    assert np.sqrt(np.mean(np.square(found - expected))) < 2e-3  # a few steps of float16 near one, and flips of rounding


@pytest.mark.parametrize("batch", [1, 3, None])
def test_the_batch_is_a_dimension_and_nowhere_a_constant(int8: onnx.ModelProto, batch: int | None) -> None:
    for model in (int8, pairs_behind_relus(int8), float_weights(int8)):
        found = outputs(with_batch(model, batch), tiles(batch or 5))[0]
        assert len(found) == (batch or 5)
        assert np.array_equal(found[-1:], outputs(model, tiles(batch or 5)[-1:])[0])

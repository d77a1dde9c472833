"""The fp16 pass."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from sr_deploy.export.graphs.half import half_precision, nodes_that_may_overflow
from sr_deploy.export.graphs.model import make_model
from sr_deploy.runtime.backends.onnx_engine import open_session


def run(
    model: onnx.ModelProto, tile: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(open_session(model.SerializeToString(), ["CPUExecutionProvider"], 1).run(None, {"input": tile})[0])


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info, *inferred.output)}


def casts(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(node.input[0], node.output[0]) for node in model.graph.node if node.op_type == "Cast"]


def test_input_and_output_stay_float32(fp32: onnx.ModelProto) -> None:
    half = half_precision(fp32)
    assert {types(half)[name] for name in ("input", "output")} == {TensorProto.FLOAT}
    tile = np.zeros((1, 1, 32, 32), np.float32)
    assert run(half, tile).dtype == np.float32


def test_casts_stand_only_at_the_borders(fp32: onnx.ModelProto) -> None:
    half = half_precision(fp32)
    assert [pair[0] for pair in casts(half)].count("input") == 1
    assert len(casts(half)) == 2 and casts(half)[-1][1] == "output"
    inside = set(types(half)) - {"input", "output"}
    assert {types(half)[name] for name in inside} == {TensorProto.FLOAT16}
    assert {t.data_type for t in half.graph.initializer} == {TensorProto.FLOAT16}


def test_the_model_given_is_not_changed(fp32: onnx.ModelProto) -> None:
    before = fp32.SerializeToString(deterministic=True)
    half_precision(fp32, keep=frozenset({"conv2"}))
    assert fp32.SerializeToString(deterministic=True) == before


def test_kept_nodes_compute_in_float32(fp32: onnx.ModelProto) -> None:
    half = half_precision(fp32, keep=frozenset({"conv2"}))
    node = next(n for n in half.graph.node if n.name == "conv2")
    weights = {t.name: t.data_type for t in half.graph.initializer}
    assert weights[node.input[1]] == TensorProto.FLOAT
    assert types(half)[node.output[0]] == TensorProto.FLOAT
    assert len(casts(half)) == 4  # in and out of the graph, in and out of conv2


def test_everything_kept_is_the_same_graph(fp32: onnx.ModelProto) -> None:
    kept = half_precision(fp32, keep=frozenset(node.name for node in fp32.graph.node))
    tile = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    assert casts(kept) == []
    assert np.array_equal(run(kept, tile), run(fp32, tile))


def test_half_agrees_with_fp32(fp32: onnx.ModelProto) -> None:
    tile = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    # float16 has 11 bits; the input itself, up to 1, is rounded by up to 2.4e-4 and added once more
    assert np.abs(run(half_precision(fp32), tile) - run(fp32, tile)).max() < 1.5e-3


def test_small_weights_are_rounded_not_pushed_up() -> None:
    values = np.array([1e-8, 4e-8, 1e-7, 1e-3, -1e-8], np.float32).reshape(5, 1, 1, 1)
    node = helper.make_node("Conv", ["input", "w"], ["output"], name="conv1", kernel_shape=[1, 1])
    model = make_model([node], [numpy_helper.from_array(values, "w")], (1, 1, 4, 4), (1, 5, 4, 4))
    found = numpy_helper.to_array(half_precision(model).graph.initializer[0]).ravel()
    assert np.array_equal(found, values.ravel().astype(np.float16))
    assert found[0] == 0.0 and found[4] == 0.0
    assert np.abs(found.astype(np.float64) - values.ravel()).max() <= 2.0**-25 + 1e-3 * 2.0**-11  # half a step each


@pytest.mark.parametrize(("largest", "risky"), [(16375.0, []), (16377.0, ["conv2"]), (np.inf, ["conv2"]), (np.nan, ["conv2"])])
def test_a_quarter_of_the_float16_range_is_the_limit(fp32: onnx.ModelProto, largest: float, risky: list[str]) -> None:
    node = next(n for n in fp32.graph.node if n.name == "conv2")
    maxima = {name: 1.0 for n in fp32.graph.node for name in n.output}
    assert nodes_that_may_overflow(fp32, {**maxima, node.output[0]: largest}) == risky


def test_a_weight_beyond_float16_is_risky() -> None:
    node = helper.make_node("Conv", ["input", "w"], ["output"], name="conv1", kernel_shape=[1, 1])
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), 70000.0, np.float32), "w")
    assert nodes_that_may_overflow(make_model([node], [weight], (1, 1, 4, 4), (1, 1, 4, 4)), {"output": 1.0}) == ["conv1"]


def test_an_island_saves_what_float16_would_overflow() -> None:
    nodes = [
        helper.make_node("Mul", ["input", "big"], ["a"], name="mul1"),
        helper.make_node("Mul", ["a", "small"], ["output"], name="mul2"),
    ]
    tensors = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("big", 60000.0), ("small", 1e-4))]
    model = make_model(nodes, tensors, (1, 1, 2, 2), (1, 1, 2, 2))
    risky = nodes_that_may_overflow(model, {"a": 960000.0, "output": 96.0})
    assert risky == ["mul1"]
    half = half_precision(model, keep=frozenset(risky))
    assert types(half)["a"] == TensorProto.FLOAT

"""The int8 pass: what is stored, what computes in integers, and that the integers are right."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sr_deploy.errors import InputError
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.graphs.model import make_model
from sr_deploy.export.graphs.quantize import check_names, kept_by_default, quantize, quantize_weight, round_up
from tests.helpers.graphs import outputs

Floats = NDArray[np.float32]
THRESHOLDS = {"conv1": 1.0, "conv2": 2.0, "conv3": 1.5, "conv4": 1.25}
FIRST_LAST = frozenset({"conv1", "conv4"})


def tensors(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def optimized_operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime really runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file fits this machine only
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


def photograph(seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random((1, 1, 32, 32), np.float32)


def convolved(values: NDArray[np.int64], kernels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the 3x3 convolution of integers (in, h, w), zero padding, exactly."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    h, w = values.shape[1:]
    patches = np.stack([padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=1)
    found: NDArray[np.int64] = np.einsum("oik,ikhw->ohw", kernels.reshape(*kernels.shape[:2], 9), patches)
    return found


def test_weights_are_int8_with_a_scale_for_each_channel(fp32: onnx.ModelProto) -> None:
    found = tensors(quantize(fp32, THRESHOLDS, keep=FIRST_LAST))
    original = tensors(fp32)
    for name in ("conv2.weight", "conv3.weight"):
        integers, scale = found[f"{name}.quantized"], found[f"{name}.scale"].astype(np.float32)
        assert integers.dtype == np.int8 and scale.shape == (8,)
        assert (np.abs(integers.reshape(8, -1)).max(axis=1) == 127).all()
        restored = integers.astype(np.float32) * scale[:, None, None, None]
        assert np.abs(restored - original[name].astype(np.float32)).max() <= 0.5001 * scale.max()
        assert name not in found


def test_every_zero_point_is_zero(fp32: onnx.ModelProto) -> None:
    zeros = {name: value for name, value in tensors(quantize(fp32, THRESHOLDS, keep=set())).items() if name.endswith(".zero")}
    assert len(zeros) >= 8
    assert all(value.dtype == np.int8 and not value.any() for value in zeros.values())


def test_activation_scale_is_the_threshold_over_127_as_float16(fp32: onnx.ModelProto) -> None:
    model = quantize(fp32, THRESHOLDS, keep=FIRST_LAST)
    values = tensors(model)
    dequantize = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.name in ("conv2", "conv3"):
            scale = values[dequantize[node.input[0]].input[1]]
            assert scale == round_up(np.array(THRESHOLDS[node.name] / 127))
            assert scale == pytest.approx(THRESHOLDS[node.name] / 127, rel=1e-3)


def test_a_filter_of_zeros_stays_zero() -> None:
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[1, 0, 0, 0] = -0.5
    integers, scale = quantize_weight(weight)
    assert not integers[0].any() and np.isfinite(scale).all() and scale[0] > 0
    assert integers[1, 0, 0, 0] == -127


def test_a_filter_of_denormal_numbers_has_a_usable_scale() -> None:
    integers, scale = quantize_weight(np.full((1, 1, 3, 3), 1e-42, np.float32))
    assert scale[0] > 0 and np.isfinite(np.float32(1) / scale).all() and not integers.any()


def test_first_and_last_convolution_are_kept(fp32: onnx.ModelProto) -> None:
    assert kept_by_default(fp32) == {"conv1", "conv4"}


def test_kept_convolutions_have_their_own_weights(fp32: onnx.ModelProto) -> None:
    model = quantize(fp32, THRESHOLDS, keep={"conv1", "conv3", "conv4"})
    before, after = tensors(fp32), tensors(model)
    for name in ("conv1", "conv3", "conv4"):
        node = next(n for n in model.graph.node if n.name == name)
        assert np.array_equal(after[node.input[1]], before[f"{name}.weight"])


def test_everything_kept_is_the_same_network(fp32: onnx.ModelProto) -> None:
    model = quantize(fp32, THRESHOLDS, keep={f"conv{n}" for n in range(1, 5)})
    assert np.array_equal(outputs(model, photograph())[0], outputs(fp32, photograph())[0])


def test_an_unknown_name_is_refused(fp32: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="--keep conv9: no convolution of this network; known: conv1, conv2, conv3, conv4"):
        check_names(fp32, {"conv1", "conv9"})


def test_a_missing_threshold_is_refused(fp32: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="conv3: has no threshold; calibrate again, or leave it out with --keep conv3"):
        quantize(fp32, {"conv2": 1.0}, keep=FIRST_LAST)


def test_the_model_given_is_not_changed(fp32: onnx.ModelProto) -> None:
    before = fp32.SerializeToString(deterministic=True)
    quantize(fp32, THRESHOLDS, keep=FIRST_LAST)
    assert fp32.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("keep", [{"conv1", "conv4"}, {"conv1", "conv2", "conv4"}, {"conv4"}])
def test_onnx_runtime_runs_every_int8_convolution_in_integers(fp32: onnx.ModelProto, tmp_path: Path, keep: set[str]) -> None:
    found = optimized_operators(quantize(fp32, THRESHOLDS, keep=keep), tmp_path)
    assert found.count("QLinearConv") == 4 - len(keep)
    assert found.count("Conv") + found.count("FusedConv") == len(keep)


def test_without_the_inner_pair_onnx_runtime_would_not(fp32: onnx.ModelProto, tmp_path: Path) -> None:
    found = optimized_operators(without_inner_pairs(quantize(fp32, THRESHOLDS, keep=FIRST_LAST)), tmp_path)
    assert found.count("QLinearConv") < 2


def without_inner_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the quantization between a convolution and its ReLU."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    convolutions = {node.output[0] for node in copy.graph.node if node.op_type == "Conv"}
    inner = {
        node.output[0]: node.input[0] for node in copy.graph.node if node.input[0] in convolutions and "Quant" in node.op_type
    }
    replaced = {node.output[0]: inner[node.input[0]] for node in copy.graph.node if node.input[0] in inner}
    kept = [node for node in copy.graph.node if node.output[0] not in inner and node.output[0] not in replaced]
    for node in kept:
        node.input[:] = [replaced.get(name, name) for name in node.input]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


@pytest.mark.parametrize("factor", [1.0, 0.2, 5.0])
def test_the_inner_pair_changes_no_integer(fp32: onnx.ModelProto, factor: float) -> None:
    model = quantize(fp32, {name: factor * value for name, value in THRESHOLDS.items()}, keep={"conv1"})
    plain = without_inner_pairs(model)
    assert len(plain.graph.node) < len(model.graph.node)
    watched = tuple(n.output[0] for n in plain.graph.node if n.op_type == "QuantizeLinear")
    assert len(watched) == 3
    # dq(q(x)) divided by the scale again is a whole number up to float32 rounding, far from a half
    for ours, theirs in zip(outputs(model, photograph(), watched), outputs(plain, photograph(), watched), strict=True):
        assert np.array_equal(ours, theirs)


def single(weight: Floats) -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["input", "w"], ["output"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    shape = (1, len(weight), 32, 32)
    return make_model(nodes, [numpy_helper.from_array(weight, "w")], (1, 1, 32, 32), shape)


@pytest.mark.parametrize("threshold", [1.0, 0.4])
def test_one_convolution_equals_integer_arithmetic(threshold: float) -> None:
    weight = np.random.default_rng(1).standard_normal((4, 1, 3, 3)).astype(np.float32)
    step = round_up(np.array(threshold / 127))
    integers = np.clip(np.rint(photograph()[0] / step), -128, 127).astype(np.int64)
    kernels, scales = quantize_weight(weight)
    expected = convolved(integers, kernels.astype(np.int64)) * (step * scales.astype(np.float64))[:, None, None]
    found = outputs(quantize(single(weight), {"conv1": threshold}, keep=set()), photograph())[0][0]
    # nine float32 products against exact integers
    assert np.allclose(found, expected, atol=1e-5)


def test_integers_between_two_convolutions_equal_integer_arithmetic() -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.standard_normal(s).astype(np.float32) for s in ((4, 1, 3, 3), (1, 4, 3, 3)))
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "w2"], ["output"], name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    weights = [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")]
    model = quantize(make_model(nodes, weights, (1, 1, 32, 32), (1, 1, 32, 32)), {"conv1": 1.0, "conv2": 3.0}, keep=set())
    steps = round_up(np.array(1.0 / 127)), round_up(np.array(3.0 / 127))
    integers = np.clip(np.rint(photograph()[0] / steps[0]), -128, 127).astype(np.int64)
    kernels, scales = quantize_weight(first)
    sums = convolved(integers, kernels.astype(np.int64)) * (steps[0] * scales.astype(np.float64))[:, None, None]
    hidden = np.maximum(np.clip(np.rint(sums / steps[1]), -128, 127), 0).astype(np.int64)
    (found,) = outputs(model, photograph(), ("b.quantized",))[1:]
    # a sum within float32 rounding of a half may fall to either side
    assert np.abs(found[0].astype(int) - hidden).max() <= 1
    assert np.count_nonzero(found[0] != hidden) < 0.002 * hidden.size
    kernels, scales = quantize_weight(second)
    expected = (
        convolved(found[0].astype(np.int64), kernels.astype(np.int64)) * (steps[1] * scales.astype(np.float64))[:, None, None]
    )
    assert np.allclose(outputs(model, photograph())[0][0], expected, atol=1e-4)


def test_optimized_integers_differ_by_rounding_only(exported: Path) -> None:
    model = onnx.load(exported / "tiny_int8.onnx")
    plain, fast = outputs(model, photograph())[0], outputs(model, photograph(), optimize=True)[0]
    # single steps of rounding, of a residual of a few hundredths
    assert np.abs(plain - fast).mean() < 1e-3


def test_thresholds_of_the_export_are_the_scales_in_the_graph(exported: Path) -> None:
    thresholds = read_calibration(exported / "tiny_int8.thresholds.json").thresholds
    values = tensors(onnx.load(exported / "tiny_int8.onnx"))
    expected = {np.float32(round_up(np.array(v / 127))) for name, v in thresholds.items() if name != "conv1"}
    scales = {np.float32(v) for name, v in values.items() if name.endswith(".scale") and v.ndim == 0}
    assert scales == expected


def test_scales_are_float16_numbers_and_not_smaller() -> None:
    scale = np.concatenate([np.geomspace(1e-12, 6e4, 500), [0.25, 2.0**-24, 65504.0, 1e6]])
    found = round_up(scale)
    assert np.all(found >= scale.astype(np.float32))
    assert np.array_equal(found[:-1], found[:-1].astype(np.float16).astype(np.float32))
    normal = (scale >= 2.0**-14) & (scale <= 6e4)
    assert np.all(found[normal] <= scale[normal] * (1 + 2.0**-10))
    assert found[500] == 0.25 and found[-1] == np.float32(1e6)


def test_all_scales_of_a_graph_are_float16_numbers(exported: Path) -> None:
    found = {name: value for name, value in tensors(onnx.load(exported / "tiny_int8.onnx")).items() if name.endswith(".scale")}
    assert found
    assert all(np.array_equal(value, value.astype(np.float16).astype(np.float32)) for value in found.values())


def test_a_relu_between_integers_is_a_leaky_one_of_slope_0(fp32: onnx.ModelProto) -> None:
    model = quantize(fp32, THRESHOLDS, keep=FIRST_LAST)
    kinds = {node.name: node.op_type for node in model.graph.node if node.op_type in ("Relu", "LeakyRelu")}
    assert kinds == {"relu1": "Relu", "relu2": "LeakyRelu", "relu3": "Relu"}  # conv1 gives floats, conv4 reads them
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.op_type == "LeakyRelu":
            assert [(a.name, a.f) for a in node.attribute] == [("alpha", 0.0)]
            node.op_type = "Relu"
            del node.attribute[:]
    assert np.array_equal(outputs(model, photograph())[0], outputs(plain, photograph())[0])


def test_onnx_runtime_computes_it_in_integers(exported: Path, tmp_path: Path) -> None:
    found = optimized_operators(onnx.load(exported / "tiny_int8.onnx"), tmp_path)
    assert found.count("QLinearLeakyRelu") == 1 and found.count("QLinearConv") == 2

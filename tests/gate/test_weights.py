"""Weights of an engine against the network's, in steps of the engine's precision; without torch and onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.gate.weights import largest_error_steps, steps, stored_as
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny

Stored = dict[str, NDArray[np.generic]]


def quantized(weight: NDArray[np.float32]) -> Stored:
    scale = (np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127).astype(np.float32)
    integers = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
    return {"w.quantized": integers, "w.scale": scale}


def weight() -> NDArray[np.float32]:
    return tiny.random_weights((8, 8))[1]


def test_an_equal_graph_is_no_step_off(reference: Path, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.sharpening_weights(4), SHAPE)
    assert largest_error_steps(path, reference) == (0.0, "conv1")


@pytest.mark.parametrize("layer", range(4))
def test_the_convolution_that_is_off_is_named(reference: Path, tmp_path: Path, layer: int) -> None:
    weights = tiny.sharpening_weights(4)
    weights[layer][0, 0, 1, 1] = np.nextafter(weights[layer][0, 0, 1, 1], np.float32(9))
    found = largest_error_steps(tiny.write(tmp_path / "m.onnx", weights, SHAPE), reference)
    # one float32 step; half a step where the value is a power of two, whose spacing is another above than below
    assert found is not None and found[1] == f"conv{layer + 1}" and 0.5 <= found[0] <= 1.0


def test_rounding_to_int8_is_half_a_step_at_most() -> None:
    assert 0.4 < steps(quantized(weight()), "w", weight()) <= 0.5001  # float32 rounding of the scale


def test_rounding_to_float16_is_half_a_step_at_most() -> None:
    assert 0.4 < steps({"w.half": weight().astype(np.float16)}, "w", weight()) <= 0.5


@pytest.mark.parametrize("change", [1, -1, 60])
def test_a_changed_integer_is_seen(change: int) -> None:
    stored = quantized(weight())
    stored["w.quantized"] = stored["w.quantized"].copy()
    stored["w.quantized"].reshape(-1)[5] += change
    assert steps(stored, "w", weight()) > abs(change) - 0.51


def test_a_wrong_scale_is_seen() -> None:
    stored = quantized(weight())
    stored["w.scale"] = np.asarray(stored["w.scale"], np.float32) * np.float32(1.02)
    assert steps(stored, "w", weight()) > 1.0


def test_a_weight_that_is_no_number_is_infinitely_off() -> None:
    broken = weight()
    broken[0, 0, 0, 0] = np.nan
    assert steps({"w": broken}, "w", weight()) == float("inf")


def test_another_shape_is_infinitely_off() -> None:
    assert steps({"w": weight()[:4]}, "w", weight()) == float("inf")


def test_weights_are_found_in_every_precision() -> None:
    assert [stored_as({n: weight()}, "w") for n in ("w", "w.half", "w.quantized", "x")] == ["w", "w.half", "w.quantized", None]


def test_no_weight_in_common_is_an_error(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.model_of(b"", None))
    with pytest.raises(InputError, match="has no weight in common with"):
        largest_error_steps(path, reference)


def test_a_missing_layer_is_not_overlooked(reference: Path, tmp_path: Path) -> None:
    content = tiny.write(tmp_path / "m.onnx", tiny.sharpening_weights(4), SHAPE).read_bytes()
    path = tmp_path / "renamed.onnx"
    path.write_bytes(content.replace(b"conv2.weight", b"conv2.w_____"))
    found = largest_error_steps(path, reference)
    assert found is not None and found == (float("inf"), "conv2")


def test_a_plan_cannot_be_read(reference: Path, tmp_path: Path) -> None:
    assert largest_error_steps(tmp_path / "m.plan", reference) is None

"""Weights of an engine against the network's, in steps of the engine's precision; without torch and onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.gate.weights import largest_error_steps, steps, stored_weight
from sr_deploy.runtime.backends.onnx_file import Graph, Node
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny

Array = NDArray[np.generic]


def weight() -> NDArray[np.float32]:
    return tiny.random_weights((8, 8))[1]


def plain(value: Array) -> Graph:
    """Return a graph whose convolution "c" reads ``value``."""
    return Graph((Node("Conv", "c", ("x", "w"), ("y",)),), {"w": value})


def quantized(*, change: int = 0, factor: float = 1.0, zero: int = 0, decoy: bool = False) -> Graph:
    """Return a graph whose convolution "c" reads the int8 version of ``weight()``, spoiled as asked."""
    scale = (np.abs(weight()).reshape(8, -1).max(axis=1) / 127).astype(np.float32)
    integers = np.rint(weight() / scale[:, None, None, None]).astype(np.int8)
    read = integers.copy()
    read.reshape(-1)[5] += change
    tensors: dict[str, Array] = {"q": read, "s": scale * np.float32(factor), "z": np.full(8, zero, np.int8)}
    if decoy:  # what the export would have written stays in the file, unread
        tensors |= {"c.weight": weight(), "c.weight.quantized": integers, "c.weight.scale": scale}
    nodes = (Node("DequantizeLinear", "d", ("q", "s", "z"), ("w",)), Node("Conv", "c", ("x", "w"), ("y",)))
    return Graph(nodes, tensors)


def test_an_equal_graph_is_no_step_off(reference: Path, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.sharpening_weights(4), SHAPE)
    assert largest_error_steps(path, reference, 2) == (0.0, "conv1")


@pytest.mark.parametrize("layer", range(4))
def test_the_convolution_that_is_off_is_named(reference: Path, tmp_path: Path, layer: int) -> None:
    weights = tiny.sharpening_weights(4)
    weights[layer][0, 0, 1, 1] = np.nextafter(weights[layer][0, 0, 1, 1], np.float32(9))
    found = largest_error_steps(tiny.write(tmp_path / "m.onnx", weights, SHAPE), reference, 2)
    # one float32 step; half a step where the value is a power of two, whose spacing is another above than below
    assert found is not None and found[1] == f"conv{layer + 1}" and 0.5 <= found[0] <= 1.0


def test_rounding_to_int8_is_half_a_step_at_most() -> None:
    assert 0.4 < steps(quantized(), "c", weight()) <= 0.5001  # float32 rounding of the scale


def test_rounding_to_float16_is_half_a_step_at_most() -> None:
    assert 0.4 < steps(plain(weight().astype(np.float16)), "c", weight()) <= 0.5


@pytest.mark.parametrize("change", [1, -1, 60])
def test_a_changed_integer_is_seen(change: int) -> None:
    assert steps(quantized(change=change), "c", weight()) > abs(change) - 0.51


def test_what_the_convolution_reads_counts_and_not_what_is_called_so() -> None:
    assert steps(quantized(change=60, decoy=True), "c", weight()) > 59


def test_a_wrong_scale_is_seen() -> None:
    assert steps(quantized(factor=1.02), "c", weight()) > 1.0


def test_a_zero_point_is_taken_off() -> None:
    assert steps(quantized(zero=3), "c", weight()) > 2.0


def test_a_weight_that_is_no_number_is_infinitely_off() -> None:
    broken = weight()
    broken[0, 0, 0, 0] = np.nan
    assert steps(plain(broken), "c", weight()) == float("inf")


def test_another_shape_is_infinitely_off() -> None:
    assert steps(plain(weight()[:4]), "c", weight()) == float("inf")


def test_a_weight_that_is_computed_is_infinitely_off() -> None:
    nodes = (Node("Mul", "m", ("v", "v"), ("w",)), Node("Conv", "c", ("x", "w"), ("y",)))
    graph = Graph(nodes, {"v": weight()})
    assert stored_weight(graph, "c") is None and steps(graph, "c", weight()) == float("inf")


def test_no_convolution_in_common_is_an_error(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.model_of(b"", None))
    with pytest.raises(InputError, match="has no convolution in common with"):
        largest_error_steps(path, reference, 2)


def test_a_missing_layer_is_not_overlooked(reference: Path, tmp_path: Path) -> None:
    content = tiny.write(tmp_path / "m.onnx", tiny.sharpening_weights(4), SHAPE).read_bytes()
    path = tmp_path / "renamed.onnx"
    path.write_bytes(content.replace(b"\x1a\x05conv2", b"\x1a\x05other"))  # field 3 of a node, its name
    found = largest_error_steps(path, reference, 2)
    assert found is not None and found == (float("inf"), "conv2")


def test_a_plan_cannot_be_read(reference: Path, tmp_path: Path) -> None:
    assert largest_error_steps(tmp_path / "m.plan", reference, 2) is None

"""What is read off a graph: halo, multiplications, and its bytes with the card."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.export.graphs.model import make_model
from sr_deploy.export.graphs.reading import halo, macs_by_convolution, serialize
from sr_deploy.runtime.backends.onnx_file import read_card


def conv(number: int, source: str, target: str, *, kernel: int = 3, dilation: int = 1) -> onnx.NodeProto:
    pad = (kernel - 1) * dilation // 2
    name, sides = f"conv{number}", [kernel, kernel]
    inputs, steps = [source, f"w{number}"], [dilation, dilation]
    return helper.make_node("Conv", inputs, [target], name=name, kernel_shape=sides, dilations=steps, pads=[pad] * 4)


def weight(number: int, shape: tuple[int, int, int, int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), f"w{number}")


def test_halo_of_a_kernel_and_a_dilation() -> None:
    nodes = [conv(1, "input", "a", kernel=5), conv(2, "a", "output", dilation=2)]
    tensors = [weight(1, (2, 1, 5, 5)), weight(2, (1, 2, 3, 3))]
    assert halo(make_model(nodes, tensors, (1, 1, 16, 16), (1, 1, 16, 16))) == 4


def test_halo_of_a_skip_connection_is_that_of_the_longer_way() -> None:
    nodes = [conv(1, "input", "a"), helper.make_node("Add", ["input", "a"], ["output"], name="add")]
    assert halo(make_model(nodes, [weight(1, (1, 1, 3, 3))], (1, 1, 16, 16), (1, 1, 16, 16))) == 1


def test_halo_behind_an_enlargement_counts_input_pixels() -> None:
    shuffle = helper.make_node("DepthToSpace", ["a"], ["b"], name="shuffle", blocksize=2, mode="CRD")
    nodes = [conv(1, "input", "a"), shuffle, conv(2, "b", "output", kernel=5)]
    model = make_model(nodes, [weight(1, (4, 1, 3, 3)), weight(2, (1, 1, 5, 5))], (1, 1, 16, 16), (1, 1, 32, 32))
    assert halo(model) == 2  # 1, and 2 of the 32 pixels are 1 of the 16


def enlarging(factors: list[float], **attributes: str) -> onnx.ModelProto:
    """Return a graph that adds a picture enlarged by Resize to what convolutions make of it."""
    shuffle = helper.make_node("DepthToSpace", ["a"], ["b"], name="shuffle", blocksize=2, mode="CRD")
    resize = helper.make_node("Resize", ["input", "", "factors"], ["c"], name="resize", **{"mode": "linear", **attributes})
    nodes = [conv(1, "input", "a"), shuffle, resize, helper.make_node("Add", ["b", "c"], ["output"], name="add")]
    tensors = [weight(1, (4, 1, 3, 3)), numpy_helper.from_array(np.array(factors, np.float32), "factors")]
    return make_model(nodes, tensors, (1, 1, 16, 16), (1, 1, 32, 32))


def test_bilinear_enlargement_sees_one_pixel() -> None:
    model = enlarging([1.0, 1.0, 2.0, 2.0], coordinate_transformation_mode="half_pixel")
    assert halo(model) == 1
    model.graph.node[0].CopyFrom(helper.make_node("Conv", ["input", "w1"], ["a"], name="conv1", kernel_shape=[1, 1]))
    assert halo(model) == 1  # of the Resize, the convolution sees none


@pytest.mark.parametrize("attributes", [{"mode": "cubic"}, {"coordinate_transformation_mode": "align_corners"}])
def test_another_resize_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(InputError, match="node resize: how far this Resize reaches is not known"):
        halo(enlarging([1.0, 1.0, 2.0, 2.0], **attributes))


def test_an_operator_of_unknown_reach_is_refused() -> None:
    nodes = [helper.make_node("AveragePool", ["input"], ["output"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    with pytest.raises(InputError, match="node pool: how far AveragePool reaches is not known"):
        halo(make_model(nodes, [], (1, 1, 16, 16), (1, 1, 16, 16)))


def test_multiplications_are_counted_by_convolution() -> None:
    nodes = [conv(1, "input", "a", kernel=5), conv(2, "a", "output")]
    model = make_model(nodes, [weight(1, (2, 1, 5, 5)), weight(2, (1, 2, 3, 3))], (2, 1, 16, 8), (2, 1, 16, 8))
    assert macs_by_convolution(model) == {"conv1": 2 * 16 * 8 * 2 * 25, "conv2": 2 * 16 * 8 * 2 * 9}


def test_serialized_graph_carries_its_card_sealed(tmp_path: Path) -> None:
    model = make_model([conv(1, "input", "output")], [weight(1, (1, 1, 3, 3))], (1, 1, 16, 16), (1, 1, 16, 16))
    card = ModelCard(arch="vdsr", widths=(1,), scales=(2,), default_scale=2, digest="sha256:" + "1" * 64)
    (tmp_path / "m.onnx").write_bytes(serialize(model, card, source="m"))
    found = read_card(tmp_path / "m.onnx")
    assert found.with_changes() == card.with_changes() and found.digest != card.digest
    assert not model.metadata_props


def test_serializing_is_deterministic() -> None:
    model = make_model([conv(1, "input", "output")], [weight(1, (1, 1, 3, 3))], (1, 1, 16, 16), (1, 1, 16, 16))
    card = ModelCard(arch="vdsr", widths=(1,), scales=(2,), default_scale=2)
    assert serialize(model, card, source="m") == serialize(model, card, source="m")

"""Which thresholds an engine has, and what the gate's own pictures ask for; without torch and onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_deploy.card import ModelCard
from sr_deploy.files import list_pictures
from sr_deploy.gate.thresholds import Judge, corners, thresholds_in, tiles
from sr_deploy.runtime.backends.onnx_file import Graph, Node, read_card
from sr_deploy.runtime.upscaling.tiling import evenly
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny


def card(**changes: object) -> ModelCard:
    return tiny.card_of(tiny.sharpening_weights(4), SHAPE).with_changes(**changes)


def pair(base: str, source: str) -> tuple[Node, Node]:
    inputs = (f"{base}.scale", f"{base}.zero")
    quantize = Node("QuantizeLinear", f"q.{base}", (source, *inputs), (f"{base}.quantized",))
    return quantize, Node("DequantizeLinear", f"d.{base}", (f"{base}.quantized", *inputs), (f"{base}.out",))


def test_a_threshold_is_127_steps() -> None:
    nodes = (*pair("x", "input"), Node("Conv", "c", ("x.out", "w"), ("y",)))
    assert thresholds_in(Graph(nodes, {"x.scale": np.array(0.5, np.float32)})) == {"c": 63.5}


def test_a_float_convolution_behind_an_integer_one_reads_through_the_relu() -> None:
    nodes = (*pair("x", "input"), Node("Relu", "r", ("x.out",), ("z",)), Node("Conv", "c", ("z", "w"), ("y",)))
    assert thresholds_in(Graph(nodes, {"x.scale": np.array(2.0, np.float32)})) == {"c": 254.0}


def test_a_float_convolution_has_none() -> None:
    nodes = (Node("Relu", "r", ("input",), ("z",)), Node("Conv", "c", ("z", "w"), ("y",)), Node("Conv", "d", ("y", "v"), ("u",)))
    assert thresholds_in(Graph(nodes, {})) == {}


@pytest.mark.parametrize("changes", [{}, {"precision": "int8"}, {"precision": "fp16", "calibration": "kl"}])
def test_what_has_no_calibrated_thresholds_is_not_judged(reference: Path, data: Path, changes: dict[str, object]) -> None:
    assert Judge(reference, list_pictures(data)).ratios(reference, card(**changes), 2) == {}


def test_a_plan_is_not_judged(reference: Path, data: Path) -> None:
    ours = card(precision="int8", calibration="kl")
    assert Judge(reference, list_pictures(data)).ratios(reference.with_suffix(".plan"), ours, 2) == {}


def test_tiles_cover_the_picture_and_are_enlarged_luma(data: Path, reference: Path) -> None:
    path, ours = list_pictures(data)[0], read_card(reference)
    places = [(path, 2, corner) for corner in corners(path, 2, ours)]
    assert [corner for *_, corner in places] == [(0, 0), (0, 48), (48, 0), (48, 48)]
    found = list(tiles(places, ours))
    assert all(tile.shape == SHAPE and tile.dtype == np.float32 for tile in found)
    assert min(tile.min() for tile in found) > 0.0 and max(tile.max() for tile in found) < 1.0


def test_places_are_spread_over_the_pictures() -> None:
    places = [(Path("a"), (n, 0)) for n in range(100)]
    assert [corner[0] for _, corner in evenly(places, 4)] == [0, 33, 66, 99]
    assert list(evenly(places[:3], 4)) == places[:3]
    assert list(evenly(places[:1], 4)) == places[:1]
    assert list(evenly([], 4)) == []


def test_shared_thresholds_are_judged_at_every_scale(data: Path, reference: Path, tmp_path: Path) -> None:
    judge = Judge(reference, list_pictures(data))
    names = ["conv2"]
    ours = card(precision="int8", calibration="minmax", scales=(2, 3), calibrated_scale=None)
    both = judge._expected(names, ours, (2, 3))
    alone = [judge._expected(names, ours, (scale,))["conv2"] for scale in (2, 3)]
    assert both["conv2"] == pytest.approx(max(alone)) and alone[0] != alone[1]

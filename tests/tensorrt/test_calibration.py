"""TensorRT's own calibration where there is one, and its cache as thresholds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_deploy.errors import EngineError, InputError
from sr_deploy.export.plans.calibration import is_cache, read_cache, thresholds_of
from sr_deploy.runtime.backends.plan_file import read_plan_card
from tests.tensorrt.conftest import Machine
from tests.tensorrt.stand_in import Scenario

Graph = Callable[[str], Path]


def cache_of(path: Path, scales: dict[str, float]) -> Path:
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    path.write_text("\n".join(["TRT-8503-EntropyCalibration2", *lines]) + "\n")
    return path


def test_native_calibration_makes_an_int8_plan_and_a_readable_cache(machine: Machine, graph: Graph) -> None:
    machine.scenario.weakly_typed = True
    source = graph("fp32")
    if machine.release == "11.4.0":
        with pytest.raises(InputError, match=r"TensorRT 11\.4\.0\.106 has no calibrators, 10\.16 was the last"):
            machine.build(source, "--calibrator", "native")
        assert machine.scenario.builds == []
        return
    assert machine.build(source, "--calibrator", "native") == 0
    (seen,) = machine.scenario.builds
    assert {"INT8", "FP16"} <= set(seen["flags"])
    plan = source.with_name("sharp_int8_native.plan")
    assert read_plan_card(plan).card.precision == "int8"
    assert machine.scenario.calibrated == 48
    cache = source.with_name("sharp_int8_native.plan.calibration")
    assert is_cache(cache)
    assert set(thresholds_of(cache, onnx.load(source))) == {"conv1", "conv2", "conv3", "conv4"}
    assert machine.cudart.leaks == 0


def test_native_calibration_wants_the_fp32_graph(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"is int8; --calibrator native takes the fp32 graph"):
        Machine("8.6.0").build(graph("int8"), "--calibrator", "native")


def test_the_buffer_is_freed_when_the_build_fails(graph: Graph) -> None:
    machine = Machine("8.6.0", Scenario(build_error="broken"))
    with pytest.raises(Exception, match="broken"):
        machine.build(graph("fp32"), "--calibrator", "native")
    assert machine.cudart.leaks == 0


def test_the_cache_of_a_good_plan_stays_when_a_second_build_fails(graph: Graph) -> None:
    machine = Machine("8.6.0", Scenario(weakly_typed=True))
    source = graph("fp32")
    assert machine.build(source, "--calibrator", "native") == 0
    before = {path.name: path.read_bytes() for path in source.parent.glob("*native.plan*") if path.suffix != ".log"}
    assert len(before) == 3
    machine.scenario.build_error = "broken"
    with pytest.raises(EngineError, match="broken"):
        machine.build(source, "--calibrator", "native", "--force")
    assert {path.name: path.read_bytes() for path in source.parent.glob("*native.plan*") if path.suffix != ".log"} == before


def test_a_cache_holds_scales_as_big_endian_floats(tmp_path: Path) -> None:
    path = cache_of(tmp_path / "c", {"input": 0.5, "a:b": 0.25})
    assert path.read_text().splitlines()[1] == "input: 3f000000"
    assert read_cache(path) == {"input": 63.5, "a:b": 31.75}


def test_thresholds_follow_what_each_convolution_reads(graph: Graph, tmp_path: Path) -> None:
    model = onnx.load(graph("fp32"))
    inputs = {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    scales = {value: 0.01 * (n + 1) for n, value in enumerate(inputs.values())}
    found = thresholds_of(cache_of(tmp_path / "c", scales), model)
    assert found == pytest.approx({name: 127 * float(np.float32(scales[value])) for name, value in inputs.items()})


def test_a_cache_of_another_graph_is_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no scale for input \(1 tensors are in it\); it was made on another graph"):
        thresholds_of(cache_of(tmp_path / "c", {"other": 1.0}), onnx.load(graph("fp32")))


@pytest.mark.parametrize("text", ["TRT-1", "TRT-1\na: zz", "TRT-1\na: 00", "TRT-1\na: 00000000", "TRT-1\na: 7fc00000", "{}"])
def test_a_damaged_cache_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(InputError, match="not a TensorRT calibration cache") as caught:
        read_cache(tmp_path / "c")
    assert "\n" not in str(caught.value)

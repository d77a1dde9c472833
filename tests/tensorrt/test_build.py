"""Plans of every precision in every release: what TensorRT is told, what appears, and that nothing does when it went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.errors import CheckError, EngineError, InputError, MachineError
from sr_deploy.export.plans.outcome import explain
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
from tests.tensorrt.conftest import SHAPE, Machine
from tests.tensorrt.stand_in import FakeCudart, Scenario

Graph = Callable[[str], Path]
PRECISIONS = ("fp32", "fp16", "int8")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_computes_what_its_graph_computes(machine: Machine, graph: Graph, tmp_path: Path, precision: str) -> None:
    source = graph(precision)
    assert machine.build(source, "-o", tmp_path / "out") == 0
    plan = tmp_path / "out" / f"sharp_{precision}.plan"
    assert {plan.name, f"{plan.name}.json"} <= set(names(plan.parent))
    tiles = np.random.default_rng(0).random((5, *SHAPE[1:]), np.float32)
    engine = machine.load(plan)
    found, expected = engine.run(tiles), OnnxEngine(source, threads=1).run(tiles)
    engine.close()
    assert found.shape == expected.shape and np.sqrt(np.mean(np.square(found - expected))) < 2e-3
    assert machine.cudart.leaks == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precision_is_said_in_the_way_of_the_release(machine: Machine, graph: Graph, precision: str) -> None:
    machine.build(graph(precision))
    (seen,) = machine.scenario.builds
    assert "TF32" not in seen["flags"]
    assert seen["pools"] == {"WORKSPACE": int(0.75 * (8 << 30))}
    if machine.strongly_typed:
        assert not set(seen["flags"]) & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
        assert seen["opset"] == (19 if precision == "int8" else 17)
        assert seen["precisions"] == {}
        return
    wanted = {"fp32": set(), "fp16": {"FP16"}, "int8": {"FP16", "INT8"}}[precision]
    assert set(seen["flags"]) & {"FP16", "INT8"} == wanted
    assert ("OBEY_PRECISION_CONSTRAINTS" in seen["flags"]) == (precision != "fp32")
    layers = {"fp32": [], "fp16": ["conv1", "conv2", "conv3", "conv4"], "int8": ["conv1", "conv4"]}[precision]
    assert seen["precisions"] == dict.fromkeys(layers, "HALF")
    assert set(seen["output_types"]) == set(layers)
    assert seen["opset"] == 17


def test_a_layer_that_could_overflow_stays_float32_in_8(graph: Graph, tmp_path: Path) -> None:
    from sr_deploy.runtime.backends.onnx_file import read_card
    from tests.tensorrt.conftest import put, stripped

    source = graph("fp16")
    card = read_card(source)
    put(source, stripped(source), card.with_changes(layers={**card.layers, "conv2": "fp32"}))
    machine = Machine("8.6.0")
    machine.build(source)
    assert machine.scenario.builds[0]["precisions"]["conv2"] == "FLOAT"


def test_refused_int8_weights_become_float_ones_of_equal_value(graph: Graph, tmp_path: Path) -> None:
    machine = Machine("8.5.3", Scenario(refuses_int8_weights=True))
    source = graph("int8")
    assert machine.build(source) == 0
    model = machine.scenario.builds[0]["model"]
    assert not [t.name for t in model.graph.initializer if t.data_type == 3 and len(t.dims) == 4]
    tiles = np.random.default_rng(0).random(SHAPE, np.float32)
    engine = machine.load(source.with_suffix(".plan"))
    assert np.abs(engine.run(tiles) - OnnxEngine(source, threads=1).run(tiles)).max() < 2e-2
    engine.close()


def test_int8_weights_that_no_kernel_takes_become_float_ones(graph: Graph) -> None:
    machine = Machine("8.6.0", Scenario(cannot_fuse_int8_weights=True))
    assert machine.build(graph("int8")) == 0
    (seen,) = machine.scenario.builds
    assert {t.data_type for t in seen["model"].graph.initializer if len(t.dims) == 4} == {1}


def test_a_failure_of_both_tries_tells_the_second(graph: Graph) -> None:
    machine = Machine("8.6.0", Scenario(refuses_int8_weights=True, build_error="the second"))
    with pytest.raises(EngineError, match=r"no plan could be built \(the second\)"):
        machine.build(graph("int8"))


def test_ctrl_c_inside_a_callback_is_not_lost(machine: Machine, graph: Graph) -> None:
    machine.scenario.interrupt = True
    source = graph("fp32")
    with pytest.raises(KeyboardInterrupt):
        machine.build(source)
    assert not source.with_suffix(".plan").exists()


def test_a_tensorrt_that_does_not_start_is_one_line(machine: Machine, graph: Graph) -> None:
    machine.scenario.no_builder = True
    with pytest.raises(EngineError, match=r"does not start here .*nullptr"):
        machine.build(graph("fp32"))


def test_a_cache_that_cannot_be_written_costs_no_plan(
    machine: Machine, graph: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    source = graph("fp32")
    assert machine.build(source, "--timing-cache", tmp_path / "file" / "cache") == 0
    assert source.with_suffix(".plan").exists() and "warning: " in capsys.readouterr().err


def test_building_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import sr_deploy.export.plans.run; import sr_deploy.export.plans.command"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_card_says_what_built_it_and_for_what(machine: Machine, graph: Graph) -> None:
    source = graph("fp16")
    machine.build(source)
    found = json.loads(source.with_name("sharp_fp16.plan.json").read_text())
    identity = found["identity"]
    assert (identity["tensorrt"], identity["cuda"]) == (machine.trt.__version__, "12.4")
    assert (identity["gpu"], identity["capability"], identity["batches"]) == ("NVIDIA Test GPU", "9.0", [1])
    assert found["card"]["precision"] == "fp16" and found["card"]["halo"] == 4
    assert found["plan_digest"].startswith("sha256:") and found["graph"] == "sharp_fp16.onnx"
    assert found["build_seconds"] >= 0


def test_an_equal_plan_is_not_built_again(machine: Machine, graph: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    source = graph("fp32")
    machine.build(source)
    machine.build(source)
    assert len(machine.scenario.builds) == 1 and "up to date" in capsys.readouterr().out
    machine.build(source, "--force")
    assert len(machine.scenario.builds) == 2
    source.with_suffix(".plan").write_bytes(b"damaged")
    machine.build(source)
    assert len(machine.scenario.builds) == 3


def test_another_gpu_needs_another_plan(graph: Graph) -> None:
    source = graph("fp32")
    Machine("10.16.1").build(source)
    other = Machine("10.16.1", cudart=FakeCudart(name="NVIDIA Other GPU", capability=(8, 9)))
    other.build(source)
    assert len(other.scenario.builds) == 1


@pytest.mark.parametrize("option", [["--hardware-compat"], ["--version-compatible"], ["--opt-level", "5"]])
def test_options_are_set_where_they_exist(machine: Machine, graph: Graph, option: list[str]) -> None:
    source = graph("fp32")
    if machine.release == "8.5.3":
        with pytest.raises(InputError, match=rf"{option[0]}: TensorRT 8\.5\.3\.1 does not have it, 8\.6 and later do"):
            machine.build(source, *option)
        assert names(source.parent) == ["sharp_fp32.onnx"]
        return
    machine.build(source, *option)
    config = machine.scenario.builds[0]["config"]
    if option[0] == "--hardware-compat":
        assert config.hardware_compatibility_level.name == "AMPERE_PLUS"
    elif option[0] == "--opt-level":
        assert config.builder_optimization_level == 5
    else:
        assert "VERSION_COMPATIBLE" in machine.scenario.builds[0]["flags"]


def test_the_batch_is_set_and_named(machine: Machine, graph: Graph) -> None:
    source = graph("int8")
    machine.build(source, "--batch", "4")
    plan = source.with_name("sharp_int8_b4.plan")
    engine = machine.load(plan)
    tiles = np.random.default_rng(0).random((6, *SHAPE[1:]), np.float32)
    assert engine.card.input_shape == (4, 1, 48, 48)
    assert np.abs(engine.run(tiles) - OnnxEngine(source, threads=1).run(tiles)).max() < 2e-2
    engine.close()


def test_several_batches_have_a_profile_each(machine: Machine, graph: Graph) -> None:
    source = graph("fp32")
    machine.build(source, "--batch", "1", "8")
    profiles = machine.scenario.builds[0]["profiles"]
    assert [p["input"] for p in profiles] == [((n, 1, 48, 48),) * 3 for n in (1, 8)]
    tiles = np.random.default_rng(0).random((11, *SHAPE[1:]), np.float32)
    engine = machine.load(source.with_name("sharp_fp32_b1-8.plan"))
    assert np.abs(engine.run(tiles) - OnnxEngine(source, threads=1).run(tiles)).max() < 1e-5
    engine.close()


def test_two_graphs_that_would_become_one_plan_are_refused_before_either_is_built(graph: Graph, tmp_path: Path) -> None:
    machine, source = Machine("10.16.1"), graph("fp32")
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / source.name
    other.write_bytes(source.read_bytes())
    with pytest.raises(InputError, match=r"sharp_fp32\.plan: would be built from .* and from .*; name separate folders"):
        machine.build(source, other, "-o", tmp_path / "out")
    assert machine.scenario.builds == [] and machine.build(source, other) == 0


def test_kernels_are_measured_once(machine: Machine, graph: Graph, tmp_path: Path) -> None:
    source, cache = graph("fp32"), tmp_path / "cache"
    machine.build(source, "--timing-cache", cache)
    (file,) = cache.iterdir()
    assert file.name == f"NVIDIA-Test-GPU-trt{machine.trt.__version__}-cuda12.4.timing"
    assert file.read_bytes() == b"+"
    machine.build(source, "--timing-cache", cache, "--force")
    assert file.read_bytes() == b"++"
    file.write_bytes(b"other device")
    machine.build(source, "--timing-cache", cache, "--force")
    assert file.read_bytes() == b"+"


@pytest.mark.parametrize(
    ("scenario", "error", "words"),
    [
        (
            Scenario(build_error="Could not find any implementation for node conv2 + relu2."),
            EngineError,
            "no kernel fits node conv2.*too little free GPU memory",
        ),
        (Scenario(build_error="Cuda Runtime (out of memory)"), EngineError, "too little free memory"),
        (
            Scenario(parser_errors=((2, "No importer registered for op: Conv"), (3, "and another"))),
            EngineError,
            r"cannot read the graph: node \S+ \(\w+\): No importer.*; node \S+ \(\w+\): and another",
        ),
        (Scenario(refuses_plan="version mismatch"), EngineError, "cannot load it .version mismatch"),
        (Scenario(no_context=True), EngineError, "no execution context"),
        (Scenario(failing_enqueue=1), EngineError, "execute_async_v3 failed"),
        (Scenario(output=lambda v: v * np.nan), CheckError, "no finite numbers; nothing was written"),
        (Scenario(output=lambda v: v * 0), CheckError, "one constant, 0.000; nothing was written"),
        (Scenario(output=lambda v: 1 - v), CheckError, "agrees with ONNX Runtime by .* is the least for"),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_failed_build_leaves_nothing_but_the_log(
    machine: Machine, graph: Graph, scenario: Scenario, error: type[Exception], words: str, precision: str
) -> None:
    failing = Machine(machine.release, Scenario(**{**vars(scenario), "builds": [], "enqueued": 0}))
    source = graph(precision)
    with pytest.raises(error, match=words):
        failing.build(source)
    left = set(names(source.parent)) - {"sharp_fp32.onnx", source.name}
    assert left <= {f"sharp_{precision}.plan.log"}
    assert failing.cudart.leaks == 0


def test_a_good_plan_stays_when_a_second_build_fails(graph: Graph) -> None:
    machine = Machine("10.16.1")
    source = graph("fp32")
    machine.build(source)
    before = source.with_suffix(".plan").read_bytes()
    machine.scenario.build_error = "broken"
    with pytest.raises(EngineError):
        machine.build(source, "--force")
    assert source.with_suffix(".plan").read_bytes() == before
    machine.scenario.build_error = ""
    machine.load(source.with_suffix(".plan")).close()


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaGraphInstantiate"])
def test_no_device_memory_is_one_line_and_frees_everything(graph: Graph, call: str) -> None:
    machine = Machine("11.4.0")
    machine.cudart.fail[call] = 2
    with pytest.raises(EngineError, match=rf"{call} failed: cudaErrorMemoryAllocation \(out of memory\)"):
        machine.build(graph("int8"))
    assert machine.cudart.leaks == 0


def test_no_gpu_is_the_machines_failure(graph: Graph) -> None:
    with pytest.raises(MachineError, match="no NVIDIA GPU found"):
        Cuda(FakeCudart(devices=0))
    broken = FakeCudart()
    broken.fail["cudaGetDeviceCount"] = 1
    with pytest.raises(MachineError, match=r"no usable NVIDIA GPU .*cudaGetDeviceCount failed"):
        Cuda(broken)


def test_messages_of_a_failed_build_go_to_its_log(graph: Graph) -> None:
    machine = Machine("8.6.0", Scenario(build_error="something new"))
    source = graph("fp32")
    with pytest.raises(EngineError, match=r"sharp_fp32\.plan\.log: no plan could be built \(something new\)"):
        machine.build(source)
    assert "ERROR: something new" in source.with_name("sharp_fp32.plan.log").read_text()


def test_no_reason_is_said_so() -> None:
    assert explain([]) == "no plan could be built (TensorRT gave no reason)"

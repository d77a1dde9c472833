"""Plans at work: which are loaded, that lanes and graphs change nothing, and that everything is freed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.errors import EngineError, InputError
from sr_deploy.files import digest_bytes
from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
from sr_deploy.runtime.backends.tensorrt_engine import DeviceTiles
from sr_deploy.runtime.upscaling.tiling import run_whole
from tests.tensorrt.conftest import SHAPE, Machine
from tests.tensorrt.stand_in import FakeCudart, view

Graph = Callable[[str], Path]


@pytest.fixture
def plan(graph: Graph) -> Path:
    """Return a plan built by TensorRT 10.16.1."""
    source = graph("fp32")
    assert Machine("10.16.1").build(source) == 0
    return source.with_suffix(".plan")


def tiles(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(n).random((n, *SHAPE[1:]), np.float32)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_lanes_and_graphs_change_nothing(plan: Path, graphs: bool, count: int) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan, graphs=graphs)
    expected = OnnxEngine(plan.with_suffix(".onnx"), threads=1).run(tiles(count))
    for _ in range(2):
        assert np.array_equal(engine.run(tiles(count)), expected)
    launches = machine.cudart.calls.get("cudaGraphLaunch", 0)
    assert launches == (2 * count if graphs else 0)
    engine.close()
    assert machine.cudart.leaks == 0


@pytest.mark.parametrize("release", ["8.5.3", "8.6.0", "10.16.1", "11.4.0"])
def test_batches_take_turns_without_changing_a_captured_context(graph: Graph, release: str) -> None:
    machine = Machine(release)
    source = graph("fp32")
    machine.build(source, "--batch", "1", "2", "8")
    engine = machine.load(source.with_name("sharp_fp32_b1-2-8.plan"))
    assert len(engine.lanes) == (2 if machine.strongly_typed else 1)
    reference = OnnxEngine(source, threads=1)
    for count in (11, 1, 8, 3, 2, 20):
        assert np.abs(engine.run(tiles(count)) - reference.run(tiles(count))).max() < 1e-5
        engine.device_times_ms(1)
        engine.run(OnDevice(tiles(3), machine.cudart))
    engine.close()


def test_a_picture_goes_through_tiles(plan: Path) -> None:
    engine = Machine("10.16.1").load(plan)
    picture = np.random.default_rng(0).random((1, 100, 130), np.float32)
    assert np.array_equal(run_whole(engine, picture), run_whole(OnnxEngine(plan.with_suffix(".onnx"), threads=1), picture))
    engine.close()


def test_the_device_counts_its_own_time(plan: Path) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan)
    assert engine.device_times_ms(3) == [1.5, 1.5, 1.5]
    assert engine.device_times_ms(1, runs=3) == [0.5]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.cuda, "wait", lambda stream: None)
        with pytest.raises(EngineError, match="cudaEventElapsedTime failed: cudaErrorNotReady"):
            engine.device_times_ms(1)
    engine.close()
    assert machine.cudart.leaks == 0


def test_a_closed_engine_says_so_and_closes_twice(plan: Path) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan)
    assert engine.device_bytes == 2 * (2 * 4 * 48 * 48 + 1000)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine was closed"):
        engine.run(tiles(1))


def test_wrong_tiles_are_refused(plan: Path) -> None:
    engine = Machine("10.16.1").load(plan)
    with pytest.raises(ValueError, match="the engine takes float32"):
        engine.run(np.zeros((1, 1, 47, 48), np.float32))
    engine.close()


@pytest.mark.parametrize("which", [1, 2, 3])  # the first run, the capture, the other lane
def test_an_enqueue_that_fails_is_an_engine_error_and_everything_is_freed(plan: Path, which: int) -> None:
    machine = Machine("10.16.1")
    machine.scenario.failing_enqueue = which
    engine = machine.load(plan)
    with pytest.raises(EngineError, match="execute_async_v3 failed"):
        engine.run(tiles(4))
    engine.close()
    assert machine.cudart.leaks == 0


class OnDevice:
    """An array in device memory, as torch, cupy and pycuda show theirs."""

    def __init__(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], cudart: FakeCudart, **changes: object) -> None:
        self.address = cudart.cudaMalloc(values.nbytes)[1]
        view(self.address, values.nbytes)[:] = values.view(np.uint8).reshape(-1)
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": "<f4",
            "data": (self.address, False),
            "version": 3,
            **changes,
        }


@pytest.mark.parametrize("stream", [None, 1, 7])
def test_device_arrays_are_read_where_they_are(plan: Path, stream: int | None) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan)
    given = OnDevice(tiles(3), machine.cudart, stream=stream)
    handle = {None: None, 1: 0, 7: 7}[stream]
    if handle is not None:  # the caller's own stream fills the array only when somebody waits for it
        late = tiles(3).view(np.uint8).reshape(-1)
        view(given.address, late.size)[:] = 0
        machine.cudart.put(handle, lambda: view(given.address, late.size).__setitem__(slice(None), late))
    machine.cudart.kinds.clear()
    found = engine.run(given)
    assert isinstance(found, DeviceTiles) and found.shape == (3, *SHAPE[1:])
    assert set(machine.cudart.kinds) == {machine.cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice}
    lane = engine.lanes[0].stream
    waited = [stream for stream, _ in machine.cudart.waits]
    theirs = {None: [], 1: [lane, 0], 7: [lane, 7]}[stream]
    assert waited == theirs and [s for s, _ in machine.cudart.recorded] == theirs[::-1]
    if handle is not None:
        machine.cudart.cudaStreamSynchronize(handle)
    values = view(found.__cuda_array_interface__["data"][0], 4 * 3 * 48 * 48).view(np.float32).reshape(found.shape)  # type: ignore[index]
    assert np.array_equal(values, OnnxEngine(plan.with_suffix(".onnx"), threads=1).run(tiles(3)))
    del found
    engine.close()
    assert machine.cudart.leaks == 1  # what the caller allocated


@pytest.mark.parametrize("forgotten", ["wait", "follow"])
def test_the_stand_in_sees_a_wait_that_is_missing(plan: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan)
    expected = OnnxEngine(plan.with_suffix(".onnx"), threads=1).run(tiles(3))
    assert np.array_equal(engine.run(tiles(3)), expected)
    monkeypatch.setattr(engine.cuda, forgotten, lambda *streams: None)
    if forgotten == "wait":
        assert not np.array_equal(engine.run(tiles(3)), expected)
    else:
        found = engine.run(OnDevice(tiles(3), machine.cudart, stream=7))
        machine.cudart.cudaStreamSynchronize(7)
        address = found.__cuda_array_interface__["data"][0]
        assert not np.array_equal(view(address, 4 * 3 * 48 * 48).view(np.float32).reshape(found.shape), expected)
    monkeypatch.undo()
    engine.close()


@pytest.mark.parametrize("changes", [{"typestr": "<f2"}, {"strides": (1, 2, 3, 4)}, {"shape": (1, 1, 10, 10)}])
def test_device_arrays_that_do_not_fit_are_refused(plan: Path, changes: dict[str, object]) -> None:
    machine = Machine("10.16.1")
    engine = machine.load(plan)
    with pytest.raises(ValueError, match="the engine takes contiguous float32"):
        engine.run(OnDevice(tiles(1), machine.cudart, **changes))
    engine.close()


def test_another_release_is_refused_before_loading(plan: Path) -> None:
    other = Machine("11.4.0")
    with pytest.raises(InputError, match=r"built by TensorRT 10\.16\.1\.11, this machine has 11\.4\.0\.106; build it again"):
        other.load(plan)
    assert other.cudart.leaks == 0


def test_another_kind_of_gpu_is_refused(plan: Path) -> None:
    other = Machine("10.16.1", cudart=FakeCudart(name="NVIDIA L4", capability=(8, 9)))
    with pytest.raises(InputError, match=r"for NVIDIA Test GPU \(compute capability 9\.0\), this machine has NVIDIA L4 \(8\.9\)"):
        other.load(plan)


def test_another_name_of_the_same_capability_is_a_warning(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Machine("10.16.1", cudart=FakeCudart(name="NVIDIA Twin")).load(plan).close()
    assert "was built on NVIDIA Test GPU, this machine has NVIDIA Twin" in capsys.readouterr().err


def test_a_changed_plan_is_refused(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"changed after it was built \(digest .*sr-build .*sharp_fp32\.onnx -o .* --force"):
        Machine("10.16.1").load(plan)


def test_a_plan_without_a_card_needs_trust_and_its_graph(plan: Path) -> None:
    plan.with_name(f"{plan.name}.json").unlink()
    with pytest.raises(InputError, match=r"has no card .* a plan is code; .* --trust-plan"):
        Machine("10.16.1").load(plan)
    engine = Machine("10.16.1").load(plan, trusted=True)
    expected = OnnxEngine(plan.with_suffix(".onnx"), threads=1).run(tiles(2))
    assert np.array_equal(engine.run(tiles(2)), expected)
    engine.close()
    Machine("10.16.1").build(plan.with_suffix(".onnx"), "--batch", "1", "4")
    several = plan.with_name("sharp_fp32_b1-4.plan")
    several.rename(plan)
    with pytest.raises(EngineError, match="several batch sizes, which only its card names"):
        Machine("10.16.1").load(plan, trusted=True)
    plan.with_suffix(".onnx").unlink()
    with pytest.raises(InputError, match=r"sharp_fp32\.onnx: cannot be read"):
        Machine("10.16.1").load(plan, trusted=True)


def aged(plan: Path, tensorrt: str, capability: str = "9.0") -> None:
    """Let a plan's card say that another release and GPU built it."""
    path = plan.with_name(f"{plan.name}.json")
    values = json.loads(path.read_text())
    values["identity"] |= {"tensorrt": tensorrt, "capability": capability}
    path.write_text(json.dumps(values))


def test_a_version_compatible_plan_needs_trust_and_serves_later_releases_of_its_major(graph: Graph) -> None:
    source = graph("fp32")
    Machine("10.16.1").build(source, "--version-compatible", "--hardware-compat")
    plan = source.with_suffix(".plan")
    aged(plan, "10.3.0.26", "8.6")
    with pytest.raises(InputError, match=r"carries host code .* add --trust-plan"):
        Machine("10.16.1").load(plan)
    Machine("10.16.1").load(plan, trusted=True).close()
    for newer in ("10.17.0", "11.0.0", "8.6.1"):
        aged(plan, newer)
        with pytest.raises(InputError, match=rf"was built by TensorRT {newer}, this machine has 10\.16\.1\.11"):
            Machine("10.16.1").load(plan, trusted=True)


def test_a_hardware_compatible_plan_wants_ampere(graph: Graph) -> None:
    source = graph("fp32")
    Machine("10.16.1").build(source, "--hardware-compat")
    Machine("10.16.1", cudart=FakeCudart(name="NVIDIA L4", capability=(8, 9))).load(source.with_suffix(".plan")).close()
    with pytest.raises(InputError, match=r"this machine has Tesla T4 \(7\.5\)"):
        Machine("10.16.1", cudart=FakeCudart(name="Tesla T4", capability=(7, 5))).load(source.with_suffix(".plan"))


def test_the_command_that_builds_again_does_so(graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, out = graph("fp32"), tmp_path / "plans"
    Machine("10.16.1").build(source, "-o", out, "--batch", "1", "8", "--hardware-compat", "--opt-level", "2")
    monkeypatch.chdir(tmp_path)
    plan = Path("plans/sharp_fp32_b1-8.plan")
    with pytest.raises(InputError) as caught:
        Machine("11.4.0").load(plan)
    command = str(caught.value).partition("build it again here: sr-build ")[2]
    assert command == "sharp_fp32.onnx -o plans --batch 1 8 --hardware-compat --opt-level 2 --force"
    assert Machine("11.4.0").build(*command.split()) == 0
    Machine("11.4.0").load(plan).close()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": {}}', "[" * 100000, "\xff"])
def test_a_damaged_card_is_one_line(plan: Path, text: str) -> None:
    plan.with_name(f"{plan.name}.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="not a plan's card") as caught:
        Machine("10.16.1").load(plan)
    assert "\n" not in str(caught.value)


def test_the_card_of_another_plan_is_refused(plan: Path) -> None:
    path = plan.with_name(f"{plan.name}.json")
    values = json.loads(path.read_text())
    values["plan_digest"] = digest_bytes(b"other")
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="changed after it was built"):
        Machine("10.16.1").load(plan)

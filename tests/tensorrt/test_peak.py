"""The peak of a GPU, from one large matrix product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sr_deploy.errors import EngineError
from sr_deploy.runtime.backends import tensorrt_peak
from sr_deploy.runtime.backends.engine import WrappedEngine
from sr_deploy.runtime.backends.tensorrt_peak import RUNS, gpu_peak_tflops
from sr_deploy.runtime.bench import run as bench
from sr_deploy.runtime.bench.command import main
from sr_deploy.runtime.bench.peak import measure_peaks
from tests.tensorrt.conftest import Machine
from tests.tensorrt.stand_in import Scenario

SIDE = 64


def test_the_peak_is_the_operations_of_the_product_over_the_devices_time(machine: Machine) -> None:
    found = gpu_peak_tflops(machine.trt, machine.cuda, side=SIDE)
    assert found == pytest.approx(2 * SIDE**3 * RUNS / 1.5e-3 / 1e12)  # the stand-in's events are 1.5 ms apart
    (seen,) = machine.scenario.builds
    assert ("FP16" in seen["flags"]) != machine.strongly_typed
    assert machine.scenario.enqueued > RUNS
    assert machine.cudart.leaks == 0


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (Scenario(build_error="too large"), r"built no matrix product \(too large\)"),
        (Scenario(no_builder=True), "does not start here"),
        (Scenario(no_context=True), "no execution context"),
        (Scenario(failing_enqueue=9), "execute_async_v3 failed"),
    ],
)
def test_a_peak_that_cannot_be_measured_says_what_to_do(machine: Machine, scenario: Scenario, words: str) -> None:
    failing = Machine(machine.release, Scenario(**{**vars(scenario), "builds": [], "enqueued": 0}))
    with pytest.raises(EngineError, match=rf"{words}.*give --peak-tflops"):
        gpu_peak_tflops(failing.trt, failing.cuda, side=SIDE)
    assert failing.cudart.leaks == 0


def test_a_product_that_has_not_ended_is_not_timed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = machine.cuda
    monkeypatch.setattr(cuda, "wait", lambda stream: None)
    with pytest.raises(EngineError, match=r"cudaErrorNotReady .*give --peak-tflops"):
        gpu_peak_tflops(machine.trt, cuda, side=SIDE)


def test_too_little_memory_frees_what_was_had(machine: Machine) -> None:
    machine.cudart.fail["cudaMalloc"] = 2
    with pytest.raises(EngineError, match="cudaMalloc failed"):
        gpu_peak_tflops(machine.trt, machine.cuda, side=SIDE)
    assert machine.cudart.leaks == 0


def test_the_benchmark_asks_the_gpu_and_goes_on_without_an_answer(
    graph: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, source = Machine("10.16.1"), graph("fp32")
    machine.build(source)
    engine = machine.load(source.with_suffix(".plan"))
    monkeypatch.setattr(tensorrt_peak, "gpu_peak_tflops", lambda trt, cuda: gpu_peak_tflops(trt, cuda, side=SIDE))
    assert measure_peaks([engine]) == dict.fromkeys(("fp32", "fp16"), pytest.approx(2 * SIDE**3 * RUNS / 1.5e-3 / 1e12))
    machine.scenario.build_error = "broken"
    message = "the GPU's peak is not known: TensorRT built no matrix product (broken); give --peak-tflops"
    with pytest.raises(EngineError) as failed:
        measure_peaks([engine])
    assert str(failed.value) == message
    monkeypatch.setattr(bench, "load", lambda path, **options: WrappedEngine(engine))
    assert main([str(source.with_suffix(".plan")), "--rounds", "1"]) == 0
    shown = capsys.readouterr()
    assert f"sr-bench: warning: {message}" in shown.err and "of peak" not in shown.out and "device ms" in shown.out

"""Nothing this project calls of TensorRT is missing in a release it serves, unless a version check stands before it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from sr_deploy.export.plans import builder as tensorrt_build
from sr_deploy.export.plans import calibration as tensorrt_calibration
from sr_deploy.export.plans import monitor, timing_cache
from sr_deploy.runtime.backends import tensorrt_engine, tensorrt_peak
from tests.tensorrt.compact import arity
from tests.tensorrt.stand_in import RELEASES, api_of
from tests.tensorrt.walker import Walker

FILES = {
    "export/plans/builder.py": vars(tensorrt_build),
    "export/plans/calibration.py": vars(tensorrt_calibration),
    "export/plans/monitor.py": vars(monitor),
    "export/plans/timing_cache.py": vars(timing_cache),
    "runtime/backends/tensorrt_engine.py": vars(tensorrt_engine),
    "runtime/backends/tensorrt_peak.py": vars(tensorrt_peak),
}

NOT_USED = {"export/plans/calibration.py": ("11.4.0",), "export/plans/monitor.py": ("8.5.3", "8.6.0")}  # they have no such


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", FILES)
def test_every_name_and_arity_is_in_every_release(root: Path, release: str, name: str) -> None:
    walker = Walker((root / name).read_text(), api_of(release), FILES[name])
    assert walker.problems() == []
    assert bool(walker.seen) != (release in NOT_USED.get(name, ()))  # the walk saw TensorRT being used


@pytest.mark.parametrize(
    ("source", "lacking"),
    [
        ("x = trt.BuilderFlag.INT8", {"11.4.0"}),
        ("config.int8_calibrator = None", {"11.4.0"}),
        ("config.progress_monitor = None", {"8.5.3", "8.6.0"}),
        ("config.builder_optimization_level = 3", {"8.5.3"}),
        ("engine.num_bindings", {"10.16.1", "11.4.0"}),
        ("self.context.execute_async_v2([], 0)", {"10.16.1", "11.4.0"}),
        ("owner.engine.device_memory_size", {"11.4.0"}),
        ("trt.HardwareCompatibilityLevel.AMPERE_PLUS", {"8.5.3"}),
        ("layer.precision = trt.float16", {"11.4.0"}),
        ("builder.no_such_method()", set(RELEASES)),
        ("context.execute_async_v3()", set(RELEASES)),
        ("trt.Builder()", set(RELEASES)),
        ("class M(trt.IProgressMonitor):\n    pass", {"8.5.3", "8.6.0"}),
        ("if release_of(trt) >= (10, 0):\n    x = trt.BuilderFlag.INT8", {"11.4.0"}),
        ("if release_of(trt) >= SINCE:\n    config.progress_monitor = m\nelse:\n    trt.BuilderFlag.INT8", set()),
        ("def f():\n    if release_of(trt) >= (10, 0):\n        return 1\n    return trt.BuilderFlag.FP16", set()),
        ("x = trt.BuilderFlag.FP16 if release_of(trt) < (10, 0) else None", set()),
        ("if a and release_of(trt) >= (8, 6):\n    runtime.engine_host_code_allowed = True", set()),
        ("if a or release_of(trt) >= (8, 6):\n    runtime.engine_host_code_allowed = True", {"8.5.3"}),
        ("if ready:\n    engine.num_bindings", {"10.16.1", "11.4.0"}),
        ("try:\n    pass\nexcept E:\n    engine.num_bindings", {"10.16.1", "11.4.0"}),
    ],
)
def test_what_a_release_lacks_is_found(source: str, lacking: set[str]) -> None:
    assert {r for r in RELEASES if Walker(source, api_of(r), {"SINCE": (10, 0)}).problems()} == lacking


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("f(self: a.B, x: int, y: str = None) -> bool", [1, 2]),
        ("f(*args, **kwargs)", [0, -1]),
        ("f(self: a.B, names: List[str], m: Dict[str, int]) -> List[int]", [2, 2]),
        ("f(self: a.B) -> None", [0, 0]),
        ("", None),
    ],
)
def test_arities_are_read_off_signatures(signature: str, expected: list[int] | None) -> None:
    assert arity(signature) == expected

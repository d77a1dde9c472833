"""On a machine with TensorRT and a GPU: real plans of a small network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.export.plans.command import main
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_engine import OnnxEngine
from tests.tensorrt.conftest import SHAPE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt") is None or not Path("/dev/nvidiactl").exists(), reason="no TensorRT or no GPU here"
    ),
]
LIMIT = {"fp32": 1e-4, "fp16": 4e-3, "int8": 4e-2}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_real_plan_computes_its_graph(graph: Callable[[str], Path], precision: str, batch: int) -> None:
    source = graph(precision)
    assert main([str(source), "--batch", str(batch), "--no-timing-cache"]) == 0
    plan = source.with_name(f"{source.stem}{'' if batch == 1 else '_b4'}.plan")
    tiles = np.random.default_rng(0).random((7, *SHAPE[1:]), np.float32)
    engine = load(plan)
    found, expected = engine.run(tiles), OnnxEngine(source, provider="cpu", threads=1).run(tiles)
    engine.close()
    assert np.abs(found - expected).max() < LIMIT[precision]


def test_an_engine_gives_its_memory_back(graph: Callable[[str], Path]) -> None:
    from sr_deploy.runtime.backends.cuda import Cuda

    source = graph("fp16")
    assert main([str(source), "--no-timing-cache"]) == 0
    plan = source.with_suffix(".plan")
    load(plan).close()
    before = Cuda().device().free_bytes
    for _ in range(5):
        load(plan).close()
    assert Cuda().device().free_bytes >= before - (1 << 22)

"""``Upscaler`` with a plan: threads take turns, and closing frees the device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sr_deploy import Upscaler
from tests.tensorrt.conftest import Machine


@pytest.mark.parametrize("ensemble", [False, True])
def test_threads_share_a_plan(graph: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, ensemble: bool) -> None:
    source, machine = graph("fp32"), Machine("10.16.1")
    assert machine.build(source) == 0
    monkeypatch.setattr(
        "sr_deploy.runtime.backends.tensorrt_engine.load_plan", lambda path, *, trusted: machine.load(path, trusted=trusted)
    )
    images = [np.random.default_rng(n).integers(0, 256, (50 + n, 60, 3), np.uint8) for n in range(8)]
    with Upscaler(source, scale=1, threads=1, ensemble=ensemble) as reference:
        expected = [reference.upscale(image) for image in images]
    with Upscaler(source.with_suffix(".plan"), scale=1, ensemble=ensemble) as upscaler, ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(upscaler.upscale, images), expected))
    assert machine.cudart.leaks == 0

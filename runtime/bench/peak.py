"""What a matrix product reaches here at best, in the precision of an engine and with as many threads as it has.

It is measured by ONNX Runtime, which runs the engines. An engine that was faster still, because the machine was busy in between,
is the peak itself: no share is above 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.backends.engine import CPU, Engine, on_cpu
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.runtime.backends.onnx_file import MODEL
from sr_deploy.runtime.bench.table import Row

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6  # TensorProto.DataType
SIDE, RUNS = 1536, 5

Peaks = Mapping[str, float]
"""10^12 operations a second, by precision; one that is not in it is not known."""


def measure_peaks(engines: Sequence[Engine], *, threads: int | None = None) -> dict[str, float]:
    """Return the peaks of the device the engines run on; none where a library has the device.

    A GPU's is that of float16, which float32 stays below; that of int8 is not measured.

    Raises:
        EngineError: it cannot be measured.
    """
    for engine in engines:
        if engine.gpu is not None:
            return dict.fromkeys(("fp32", "fp16"), engine.gpu.peak_tflops())
    if not all(map(on_cpu, engines)):
        return {}
    wanted = {engine.card.precision for engine in engines}
    found = {"int8": cpu_peak_tops("int8", threads=threads)} if "int8" in wanted else {}
    # On x86, ONNX Runtime computes float16 in float32.
    return found | (dict.fromkeys(("fp32", "fp16"), cpu_peak_tops("fp32", threads=threads)) if wanted - {"int8"} else {})


def cpu_peak_tops(precision: str, *, threads: int | None = None, side: int | None = None, runs: int = RUNS) -> float:
    """Return the operations a second of the fastest of some matrix products in fp32 or int8, in 10^12."""
    rng, side = np.random.default_rng(0), side or SIDE
    if precision == "int8":
        left, right = rng.integers(0, 256, (side, side), np.uint8), rng.integers(-128, 128, (side, side), np.int8)
        content = product("MatMulInteger", right, (UINT8, INT8, INT32))
    else:
        left, right = (rng.random((side, side), np.float32) for _ in range(2))
        content = product("MatMul", right, (FLOAT, FLOAT, FLOAT))
    session = open_session(content, [CPU], threads)
    best = math.inf
    for _ in range(runs):
        began = time.perf_counter()
        session.run(None, {"left": left})
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 / best / 1e12


def product(kind: str, right: NDArray[np.generic], types: tuple[int, int, int]) -> bytes:
    """Return a model that multiplies its input ``left`` with the matrix ``right``; ``types`` are of left, right and result."""
    model = MODEL(ir_version=8)
    model.opset_import.add(version=17)
    model.graph.name = "product"
    model.graph.input.add(name="left").type.tensor_type.elem_type = types[0]
    model.graph.initializer.add(name="right", dims=right.shape, data_type=types[1], raw_data=right.tobytes())
    model.graph.node.add(op_type=kind, input=["left", "right"], output=["result"])
    model.graph.output.add(name="result").type.tensor_type.elem_type = types[2]
    content: bytes = model.SerializeToString()
    return content


def with_shares(rows: Sequence[Row], peaks: Peaks, *, on_gpu: bool) -> list[Row]:
    """Return rows with their share of the peak, those on the device that has it: a GPU, or the CPU."""
    there = [row for row in rows if (row.device_ms is not None) == on_gpu]
    best = {
        precision: max(peak, *(row.tops for row in there if row.precision == precision), 0.0) for precision, peak in peaks.items()
    }
    return [
        replace(row, share_of_peak=row.tops / best[row.precision] if row in there and row.precision in best else None)
        for row in rows
    ]

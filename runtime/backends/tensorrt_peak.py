"""What an NVIDIA GPU reaches at best: one large float16 matrix product, built and timed by TensorRT.

No program reaches the data sheet's figure, which knows nothing of clocks and cooling; what this machine does now with
the shape that suits it best is what a network can be compared with. int8 products are faster than this, up to twice.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from sr_deploy.errors import EngineError
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.tensorrt_library import logger_for, release_of

SIDE = 8192
RUNS, WARM_UPS = 20, 5
STRONGLY_TYPED_SINCE = (10, 0)


def gpu_peak_tflops(trt: Any, cuda: Cuda, *, side: int = SIDE) -> float:
    """Return the operations a second of a ``side`` x ``side`` float16 matrix product on the current GPU, in 10^12.

    Raises:
        EngineError: TensorRT or CUDA failed; there is too little free memory.
    """
    try:
        return _measured(trt, cuda, side)
    except EngineError as err:
        raise EngineError(f"the GPU's peak is not known: {str(err).split('; ')[0]}; give --peak-tflops") from err


def _measured(trt: Any, cuda: Cuda, side: int) -> float:
    runtime, engine = _engine(trt, side)
    context = engine.create_execution_context()
    if context is None:
        raise EngineError("no execution context")
    with ExitStack() as stack:
        stream = cuda.new_stream()
        stack.callback(_freed, cuda, "cudaStreamDestroy", stream)
        noise = np.resize(np.random.default_rng(0).standard_normal(2**20).astype(np.float16), (side, side))
        copy = cuda.module.cudaMemcpyKind.cudaMemcpyHostToDevice
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            address = int(cuda.call("cudaMalloc", noise.nbytes))
            stack.callback(_freed, cuda, "cudaFree", address)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:  # zeros would take less power, and so run faster
                cuda.call("cudaMemcpy", address, noise.ctypes.data, noise.nbytes, copy)
            context.set_tensor_address(name, address)
        begin, end = (cuda.call("cudaEventCreateWithFlags", 0) for _ in range(2))
        for event in (begin, end):
            stack.callback(_freed, cuda, "cudaEventDestroy", event)
        for run in range(WARM_UPS + RUNS):
            if run == WARM_UPS:
                cuda.call("cudaEventRecord", begin, stream)
            if not context.execute_async_v3(int(stream)):
                raise EngineError("TensorRT's execute_async_v3 failed")
        cuda.call("cudaEventRecord", end, stream)
        cuda.wait(stream)
        seconds = float(cuda.call("cudaEventElapsedTime", begin, end)) / 1000.0
    del context, engine, runtime  # in this order
    return 2.0 * side**3 * RUNS / seconds / 1e12


def _freed(cuda: Cuda, call: str, handle: Any) -> None:
    with suppress(EngineError):  # after a failure of the device everything fails; the first error is the one to report
        cuda.call(call, handle)


def _engine(trt: Any, side: int) -> tuple[Any, Any]:
    """Return TensorRT's run-time and an engine that multiplies two float16 matrices."""
    logger = logger_for(trt)
    logger.begin()
    try:
        builder = trt.Builder(logger)
    except TypeError as err:  # what its bindings raise for a null pointer
        raise EngineError(f"TensorRT does not start here ({logger.last_error or err})") from err
    config = builder.create_builder_config()
    if release_of(trt) >= STRONGLY_TYPED_SINCE:
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    else:
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        config.set_flag(trt.BuilderFlag.FP16)
    a, b = (network.add_input(name, trt.float16, (side, side)) for name in ("a", "b"))
    plain = trt.MatrixOperation.NONE
    layer = network.add_matrix_multiply(a, plain, b, plain)
    tensor = layer.get_output(0)
    if release_of(trt) < STRONGLY_TYPED_SINCE:
        tensor.dtype = trt.float16
    network.mark_output(tensor)
    content = builder.build_serialized_network(network, config)
    runtime = trt.Runtime(logger)
    engine = None if content is None else runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(f"TensorRT built no matrix product ({logger.last_error})")
    return runtime, engine

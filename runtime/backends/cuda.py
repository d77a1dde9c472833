"""CUDA's run-time API with its errors checked: memory, streams, events and graphs, and nothing more than is needed.

NVIDIA's cuda-python returns a tuple that begins with an error code from every call. Here each call either returns its
values or raises :class:`EngineError` with the call's name, the error's name and what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import EngineError, MachineError

INSTALL = "pip install 'sr-deploy[tensorrt]' on a machine with an NVIDIA GPU"


@dataclass(frozen=True)
class Device:
    """The GPU in use."""

    name: str
    capability: str  # "9.0"
    total_bytes: int
    free_bytes: int


def bindings() -> ModuleType:
    """Return cuda-python's run-time module.

    Raises:
        MachineError: it is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as err:
        try:
            from cuda import cudart as runtime  # before cuda-python 12.6
        except ImportError:
            raise MachineError(f"cuda-python is not installed ({' '.join(str(err).split())}); {INSTALL}") from err
    found: ModuleType = runtime
    return found


class Cuda:
    """CUDA's run-time API; ``module`` is cuda-python's, or what stands in for it in tests."""

    def __init__(self, module: Any = None) -> None:
        """Take the bindings and check that there is a device.

        Raises:
            MachineError: cuda-python or a CUDA device is missing.
        """
        self.module = bindings() if module is None else module
        try:
            count = self.call("cudaGetDeviceCount")
        except (EngineError, RuntimeError) as err:  # RuntimeError: cuda-python found no driver library
            reason = " ".join(str(err).split()).split("; ")[0]
            raise MachineError(f"no usable NVIDIA GPU ({reason}); check nvidia-smi") from err
        if not count:
            raise MachineError("no NVIDIA GPU found; check nvidia-smi")

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the API and return its value, ``None``, or a tuple of values.

        Raises:
            EngineError: it failed; names the call and CUDA's error.
        """
        code, *values = getattr(self.module, name)(*arguments)
        if int(code) != 0:
            raise EngineError(f"{name} failed: {self._words(code)}; {_advice(name)}")
        return values[0] if len(values) == 1 else tuple(values) if values else None

    def _words(self, code: Any) -> str:
        parts = []
        for function in ("cudaGetErrorName", "cudaGetErrorString"):
            text = getattr(self.module, function)(code)[-1]
            parts.append(text.decode() if isinstance(text, bytes) else str(text))
        return f"{parts[0]} ({parts[1]})"

    def device(self) -> Device:
        """Return what the current device is and has free."""
        index = self.call("cudaGetDevice")
        properties = self.call("cudaGetDeviceProperties", index)
        free, total = self.call("cudaMemGetInfo")
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return Device(name.strip("\0 "), f"{properties.major}.{properties.minor}", int(total), int(free))

    def version(self) -> str:
        """Return the version of the CUDA run-time, as "12.4"."""
        return _dotted(self.call("cudaRuntimeGetVersion"))

    def driver_version(self) -> str:
        """Return the newest CUDA version that the driver serves, as "12.8"."""
        return _dotted(self.call("cudaDriverGetVersion"))

    def to_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy ``size`` bytes from the host to the device on ``stream``."""
        self.call("cudaMemcpyAsync", target, source, size, self.module.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def to_host(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy ``size`` bytes from the device to the host on ``stream``."""
        self.call("cudaMemcpyAsync", target, source, size, self.module.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def on_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy ``size`` bytes within the device on ``stream``."""
        self.call("cudaMemcpyAsync", target, source, size, self.module.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)

    def follow(self, stream: Any, leader: Any) -> None:
        """Let ``stream`` wait for what is on ``leader`` now; the host does not wait."""
        event = self.call("cudaEventCreateWithFlags", self.module.cudaEventDisableTiming)
        try:
            self.call("cudaEventRecord", event, leader)
            self.call("cudaStreamWaitEvent", stream, event, 0)
        finally:
            self.call("cudaEventDestroy", event)  # CUDA keeps it until it has happened

    def new_stream(self) -> Any:
        """Return a new stream that does not wait for the default stream."""
        return self.call("cudaStreamCreateWithFlags", self.module.cudaStreamNonBlocking)

    def wait(self, stream: Any) -> None:
        """Wait until ``stream`` is done."""
        self.call("cudaStreamSynchronize", stream)

    @contextmanager
    def captured(self, stream: Any) -> Iterator[list[Any]]:
        """Record what the block puts on ``stream`` instead of running it; the list then holds the graph, ready to launch."""
        result: list[Any] = []
        self.call("cudaStreamBeginCapture", stream, self.module.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            yield result
        except BaseException:
            code, *unfinished = self.module.cudaStreamEndCapture(stream)  # the first error is the one to report
            if int(code) == 0 and unfinished and unfinished[0]:
                self.module.cudaGraphDestroy(unfinished[0])
            raise
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            result.append(self.call("cudaGraphInstantiate", graph, 0))
        finally:
            self.call("cudaGraphDestroy", graph)


class Buffer:
    """Memory on the device and pinned memory on the host for the same values."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> None:
        """Allocate both; if the second cannot be had, the first is freed."""
        self.cuda, self.size = cuda, int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.device: int | None = int(cuda.call("cudaMalloc", self.size))
        try:
            self.host: int | None = int(cuda.call("cudaMallocHost", self.size))
        except BaseException:
            cuda.call("cudaFree", self.device)
            raise
        self.array: NDArray[Any] = host_array(self.host, self.size).view(dtype).reshape(shape)

    def close(self) -> None:
        """Free both; a second call does nothing."""
        device, self.device = self.device, None
        host, self.host = self.host, None
        self.array = np.empty(0, np.float32)
        if device is not None:
            self.cuda.call("cudaFree", device)
        if host is not None:
            self.cuda.call("cudaFreeHost", host)


def host_array(address: int, size: int) -> NDArray[np.uint8]:
    """Return ``size`` bytes at a host address as an array that does not own them."""
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _advice(name: str) -> str:
    """Return what to do when a call failed: most failures are memory, the others a device in a bad state."""
    if "Malloc" in name:
        return "close what else uses the GPU, or build with a smaller --batch"
    return "look at nvidia-smi, and try again in a new process"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"

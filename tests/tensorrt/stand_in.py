"""A TensorRT and a CUDA for machines without either, as strict as the real ones about what exists.

``tensorrt_of("8.5.3")`` is a module with the classes, members and arities of that release, read from ``api/``: touching
anything else raises ``AttributeError``, a wrong number of arguments ``TypeError``. Behind the names, a plan is the ONNX graph
with the settings of its build, run by ONNX Runtime on the CPU; "device" memory is host memory whose owner is known, so that
leaks are seen.
"""

from __future__ import annotations

import ctypes
import enum
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

API = Path(__file__).resolve().parent / "api"
RELEASES = ("8.5.3", "8.6.0", "10.16.1", "11.4.0")
MAGIC = b"PLAN"


def api_of(release: str) -> dict[str, Any]:
    """Return names and arities of a release."""
    found: dict[str, Any] = json.loads((API / f"{release}.json").read_text())
    return found


@dataclass
class Scenario:
    """What goes wrong, and what was seen."""

    build_error: str = ""  # TensorRT's words for a build that returns nothing
    cannot_fuse_int8_weights: bool = False  # as some 8.x builders
    no_builder: bool = False  # the bindings raise TypeError
    interrupt: bool = False  # Ctrl-C during the build: TensorRT prints and forgets what a callback raises
    refuses_int8_weights: bool = False  # as some 8.x parsers
    parser_errors: tuple[tuple[int, str], ...] = ()  # (node, words)
    refuses_plan: str = ""  # TensorRT's words when it cannot deserialize
    no_context: bool = False
    failing_enqueue: int = 0  # the how-manieth execute_async_v3 returns False
    output: Callable[[Any], Any] = lambda value: value  # what the plan makes of the right output
    builds: list[dict[str, Any]] = field(default_factory=list)
    enqueued: int = 0
    weakly_typed: bool = False  # whether a network without flags is expected (10.x with a calibrator)
    calibrated: int = 0  # batches the calibrator gave


def strict(name: str, behaviour: type, members: dict[str, Any], release: str) -> type:
    """Return a subclass of ``behaviour`` that has exactly the public ``members``."""

    def checked(function: Any, member: str) -> Any:
        least, most = members[member] or (0, -1)

        def call(*args: Any, **kwargs: Any) -> Any:
            count = len(args) + len(kwargs)
            if count < least or (most >= 0 and count > most):
                raise TypeError(f"TensorRT {release}: {name}.{member} takes {least} to {most} arguments, {count} given")
            return function(*args, **kwargs)

        return call

    class Strict(behaviour):  # type: ignore[misc]
        def __getattribute__(self, attribute: str) -> Any:
            if not attribute.startswith("_") and attribute not in members:
                raise AttributeError(f"TensorRT {release}: {name} has no {attribute}")
            value = super().__getattribute__(attribute)
            return checked(value, attribute) if not attribute.startswith("_") and callable(value) else value

        def __setattr__(self, attribute: str, value: Any) -> None:
            if not attribute.startswith("_") and attribute not in members:
                raise AttributeError(f"TensorRT {release}: {name} has no {attribute}")
            super().__setattr__(attribute, value)

    Strict.__name__ = Strict.__qualname__ = name
    return Strict


class Layer:
    """One node of the parsed graph."""

    def __init__(self, owner: Any, node: onnx.NodeProto) -> None:
        self._owner, self._node = owner, node
        self._set: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def type(self) -> Any:
        kinds = self._owner._trt.LayerType
        return kinds.CONVOLUTION if self._node.op_type == "Conv" else kinds.CONSTANT

    @property
    def precision(self) -> Any:
        return self._set.get("precision")

    @precision.setter
    def precision(self, value: Any) -> None:
        self._set["precision"] = value
        self._owner._precisions[self._node.name] = value.name

    def get_output(self, index: int) -> Any:
        return SimpleNamespace(name=self._node.output[index])

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._owner._output_types[self._node.name] = dtype.name


class Network:
    """What the parser or the caller fills."""

    def __init__(self, trt: Any, flags: int) -> None:
        self._trt, self._flags = trt, flags
        self._model: onnx.ModelProto | None = None
        self._inputs: list[onnx.ValueInfoProto] = []
        self._precisions: dict[str, str] = {}
        self._output_types: dict[str, str] = {}

    @property
    def num_layers(self) -> int:
        assert self._model is not None
        return len(self._model.graph.node)

    @property
    def num_outputs(self) -> int:
        return 1

    def add_input(self, name: str, dtype: Any, shape: Any) -> Any:
        kind = {"HALF": onnx.TensorProto.FLOAT16, "FLOAT": onnx.TensorProto.FLOAT}[dtype.name]
        value = onnx.helper.make_tensor_value_info(name, kind, list(shape))
        self._inputs.append(value)
        return SimpleNamespace(name=name)

    def add_matrix_multiply(self, input0: Any, op0: Any, input1: Any, op1: Any) -> Any:
        assert op0 == op1 == self._trt.MatrixOperation.NONE
        node = onnx.helper.make_node("MatMul", [input0.name, input1.name], ["product"], name="product")
        return self._trt.ILayer(self, node)

    def mark_output(self, tensor: Any) -> None:
        kind = self._inputs[0].type.tensor_type.elem_type
        side = [d.dim_value for d in self._inputs[0].type.tensor_type.shape.dim]
        node = onnx.helper.make_node("MatMul", [v.name for v in self._inputs], [tensor.name], name=tensor.name)
        output = onnx.helper.make_tensor_value_info(tensor.name, kind, side)
        graph = onnx.helper.make_graph([node], "made", self._inputs, [output])
        self._model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)

    def get_layer(self, index: int) -> Any:
        assert self._model is not None
        return self._trt.ILayer(self, self._model.graph.node[index])

    def get_input(self, index: int) -> Any:
        assert self._model is not None
        return SimpleNamespace(name=self._model.graph.input[index].name)

    def get_output(self, index: int) -> Any:
        assert self._model is not None
        return SimpleNamespace(name=self._model.graph.output[index].name)


class TimingCache:
    """Measured kernels: bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content + b"+"


class Config:
    """The settings of a build."""

    def __init__(self) -> None:
        self._flags: set[str] = {"TF32"}
        self._pools: dict[str, int] = {}
        self._profiles: list[Any] = []
        self._cache: Any = None

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(bytes(content))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache._content.startswith(b"other") and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1


class Profile:
    """The shapes of one profile."""

    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self._shapes[name] = (tuple(least), tuple(best), tuple(most))


def behaviours(trt: Any, release: str, scenario: Scenario) -> dict[str, type]:
    """Return how the classes of a release behave."""
    api = api_of(release)
    new = tuple(int(n) for n in release.split(".")[:2]) >= (10, 0)

    class Builder:
        def __init__(self, logger: Any) -> None:
            if scenario.no_builder:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            return trt.INetworkDefinition(trt, flags)

        def create_builder_config(self) -> Any:
            return trt.IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return trt.IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            model = network._model
            stored = {t.name: t.data_type for t in model.graph.initializer}
            wide = not any(
                stored.get(n.input[0]) == onnx.TensorProto.INT8 for n in model.graph.node if n.op_type == "DequantizeLinear"
            )
            if scenario.cannot_fuse_int8_weights and not wide:
                self._logger.log(trt.ILogger.ERROR, "Could not find any implementation for node conv2.")
                return None
            words = scenario.build_error or self._refusal(network, config)
            if words:
                self._logger.log(trt.ILogger.ERROR, words)
                return None
            calibrator = getattr(config, "int8_calibrator", None) if "int8_calibrator" in api["IBuilderConfig"] else None
            if calibrator is not None:
                self._calibrate(calibrator, model)
            monitor = getattr(config, "progress_monitor", None) if new else None
            if scenario.interrupt:
                self._interrupted(monitor)
                return None
            if monitor is not None:
                monitor.phase_start("Building Engine", None, 4)
                for step in range(4):
                    assert monitor.step_complete("Building Engine", step)
                monitor.phase_finish("Building Engine")
            settings = {
                "flags": sorted(config._flags),
                "network_flags": network._flags,
                "pools": config._pools,
                "precisions": network._precisions,
                "output_types": network._output_types,
                "profiles": [p._shapes for p in config._profiles],
                "opt_level": getattr(config, "_level", None),
                "opset": model.opset_import[0].version,
            }
            scenario.builds.append({**settings, "model": model, "config": config})
            head = json.dumps({**settings, "release": release}).encode()
            return MAGIC + len(head).to_bytes(4, "little") + head + bytes(model.SerializeToString())

        def _calibrate(self, calibrator: Any, model: onnx.ModelProto) -> None:
            """Feed every batch and write a cache with the largest input seen for every tensor."""
            assert calibrator.get_batch_size() == 1 and calibrator.read_calibration_cache() is None
            shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
            size, largest = 4 * int(np.prod(shape)), 0.0
            while (addresses := calibrator.get_batch(["input"])) is not None:
                largest = max(largest, float(view(addresses[0], size).view(np.float32).max()))
                scenario.calibrated += 1
            values = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
            scale = struct.pack(">f", largest / 127).hex()
            lines = [f"TRT-{release.replace('.', '')}-EntropyCalibration2", *(f"{name}: {scale}" for name in values)]
            calibrator.write_calibration_cache("\n".join(lines).encode())

        def _interrupted(self, monitor: Any) -> None:
            """Let a signal strike inside a callback."""
            broken = SimpleNamespace(open=lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt()))
            self._logger.path = broken
            self._logger.log(trt.ILogger.VERBOSE, "one of thousands")
            self._logger.path = None

        def _refusal(self, network: Any, config: Any) -> str:
            if not network._model.graph.input[0].type.tensor_type.shape.dim[0].dim_value and not config._profiles:
                return "Network has dynamic or shape inputs, but no optimization profile has been defined."
            typed = new and network._flags & (1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            if typed and {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"} & config._flags:
                return "Precision flags are not allowed with a strongly typed network."
            return ""

    class Parser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._errors = network, list(scenario.parser_errors)

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            node, words = self._errors[index]
            return trt.ParserError(node, words)

        def parse(self, content: bytes, path: str | None = None) -> bool:
            model = onnx.ModelProto.FromString(bytes(content))
            flags = trt.NetworkDefinitionCreationFlag
            needed = flags.STRONGLY_TYPED if new else flags.EXPLICIT_BATCH
            weak = new and "INT8" in api["BuilderFlag"] and self._network._flags == 0 and scenario.weakly_typed
            if not weak and not self._network._flags & (1 << int(needed)):
                self._errors.append((-1, f"the network was not created with {needed.name}"))
            stored = {t.name: t.data_type for t in model.graph.initializer}
            for index, node in enumerate(model.graph.node):
                first = stored.get(node.input[0])
                if node.op_type == "DequantizeLinear" and first == onnx.TensorProto.INT8 and scenario.refuses_int8_weights:
                    self._errors.append((index, "Assertion failed: int8 initializers are not supported"))
            if self._errors:
                return False
            self._network._model = model
            return True

    class Error:
        def __init__(self, node: int, words: str) -> None:
            self._node, self._words = node, words

        def node(self) -> int:
            return self._node

        def desc(self) -> str:
            return self._words

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> Any:
            if scenario.refuses_plan or not content.startswith(MAGIC):
                self._logger.log(trt.ILogger.ERROR, scenario.refuses_plan or "magic tag does not match")
                return None
            size = int.from_bytes(content[4:8], "little")
            return trt.ICudaEngine(json.loads(content[8 : 8 + size]), content[8 + size :])

    class Engine:
        def __init__(self, settings: dict[str, Any], content: bytes) -> None:
            self._settings = settings
            self._session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
            self._model = onnx.ModelProto.FromString(content)
            self._values = {v.name: v for v in (*self._model.graph.input, *self._model.graph.output)}
            self._owners: dict[int, Any] = {}  # of each profile

        @property
        def num_io_tensors(self) -> int:
            return len(self._values)

        @property
        def device_memory_size(self) -> int:
            return 1000

        @property
        def device_memory_size_v2(self) -> int:
            return 1000

        def get_tensor_name(self, index: int) -> str:
            return str(list(self._values)[index])

        def get_tensor_mode(self, name: str) -> Any:
            inputs = {value.name for value in self._model.graph.input}
            return trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            wide = self._values[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            return trt.float32 if wide else trt.float16

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(d.dim_value or -1 for d in self._values[name].type.tensor_type.shape.dim)

        def create_execution_context(self) -> Any:
            return None if scenario.no_context else trt.IExecutionContext(self)

    class Context:
        def __init__(self, engine: Any) -> None:
            self._engine, self._addresses = engine, dict[str, int]()
            profiles = engine._settings["profiles"]
            self._profile: int | None = 0 if not profiles or 0 not in engine._owners or new else None
            self._frozen = False  # captured: changing it now would void the graph
            if self._profile == 0:
                engine._owners.setdefault(0, self)
            self._shape: tuple[int, ...] | None = None

        def set_tensor_address(self, name: str, memory: int) -> bool:
            assert not self._frozen, "a context was changed after its graph was captured"
            self._addresses[name] = int(memory)
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            assert not self._frozen, "a context was changed after its graph was captured"
            if self._profile is None:
                return False
            self._shape = tuple(shape)
            return True

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            if not 0 <= profile_index < len(self._engine._settings["profiles"]):
                return False
            owner = self._engine._owners.get(profile_index)
            if not new and owner not in (None, self):
                return False  # before TensorRT 10 a profile serves one context
            for index in [i for i, held in self._engine._owners.items() if held is self]:
                del self._engine._owners[index]
            self._engine._owners[profile_index] = self
            self._profile = profile_index
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            scenario.enqueued += 1
            if scenario.enqueued == scenario.failing_enqueue or self._profile is None:
                return False
            self._frozen = self._frozen or int(stream_handle) in trt._cuda.recording
            engine, addresses = self._engine, dict(self._addresses)
            *inputs, last = engine._values
            kinds = {n: np.dtype(np.float32 if engine.get_tensor_dtype(n) == trt.float32 else np.float16) for n in engine._values}

            def work() -> None:
                feed = {}
                for name in inputs:
                    shape = self._shape or engine.get_tensor_shape(name)
                    size = kinds[name].itemsize * int(np.prod(shape))
                    feed[name] = view(addresses[name], size).view(kinds[name]).reshape(shape)
                output = np.ascontiguousarray(scenario.output(engine._session.run(None, feed)[0]), kinds[last])
                view(addresses[last], output.nbytes)[:] = output.view(np.uint8).reshape(-1)

            trt._cuda.put(int(stream_handle), work)
            return True

    found = {
        "Builder": Builder,
        "OnnxParser": Parser,
        "ParserError": Error,
        "Runtime": Runtime,
        "ICudaEngine": Engine,
        "IExecutionContext": Context,
        "INetworkDefinition": Network,
        "IBuilderConfig": Config,
        "IOptimizationProfile": Profile,
        "ILayer": Layer,
        "ITimingCache": TimingCache,
    }
    return found


def tensorrt_of(release: str, cuda: FakeCudart, scenario: Scenario | None = None) -> Any:
    """Return the stand-in of a release, whose engines run on the memory and streams of ``cuda``."""
    api = api_of(release)
    trt = SimpleNamespace(__version__=api["__version__"], _cuda=cuda)
    known = behaviours(trt, release, scenario or Scenario())
    for name, members in api.items():
        if name == "__version__":
            continue
        if not isinstance(members, dict):
            setattr(trt, name, None)
        elif name in known:
            setattr(trt, name, strict(name, known[name], members, release))
        elif {"name", "value"} <= members.keys():
            values = sorted(m for m in members if not m.startswith("_") and m not in ("name", "value"))
            setattr(trt, name, enum.IntEnum(name, {m: n for n, m in enumerate(values)}))
        elif name == "IInt8EntropyCalibrator2":
            setattr(trt, name, type(name, (), {"__init__": lambda self: None}))
        else:
            plain = {m: None for m in members if not m.startswith("_")}
            setattr(trt, name, type(name, (), {"__init__": lambda self: None, **plain}))
    for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        setattr(trt.ILogger, name, name)
    trt.float16, trt.float32, trt.int8 = trt.DataType.HALF, trt.DataType.FLOAT, trt.DataType.INT8
    return trt


def view(address: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return memory as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _ignore(value: object) -> None:
    """Take a value and return nothing."""


class FakeCudart:
    """cuda-python's run-time module for tests: memory is the host's, and a stream runs what was put on it as late as it may.

    Work waits until somebody waits for its stream or for an event behind it, so that a result read too early is an old one.
    """

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaEventDisableTiming = 2  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, *, name: str = "NVIDIA Test GPU", capability: tuple[int, int] = (9, 0), devices: int = 1) -> None:
        self.name, self.capability, self.devices = name, capability, devices
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.recording: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.fail: dict[str, int] = {}  # call -> how-manieth fails
        self.calls: dict[str, int] = {}
        self.handles = 100
        self.kinds: list[int] = []  # of copies
        self.waits: list[tuple[int, int]] = []
        self.recorded: list[tuple[int, int]] = []  # (stream, event)
        self.pending: dict[int, list[tuple[str, Any]]] = {}  # stream -> ("work", function), ("event", event), ("wait", event)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("cuda") or not callable(value) or name.startswith("cudaGetError"):
            return value

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.calls[name] == self.fail.get(name):
                return (2,)
            return value(*args)

        return call

    @property
    def leaks(self) -> int:
        """How many things were not freed."""
        return sum(map(len, (self.memory, self.pinned, self.streams, self.graphs, self.executables)))

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Put work on a stream."""
        if stream in self.recording:
            self.recording[stream].append(work)
        else:
            self.pending.setdefault(stream, []).append(("work", work))

    def drain(self, stream: int, until: int | None = None) -> None:
        """Run what is on a stream, up to and including an event where one is given."""
        queue = self.pending.get(stream, [])
        while queue:
            kind, value = queue.pop(0)
            if kind == "work":
                value()
            elif kind == "event" and value == until:
                return
            elif kind == "wait":
                for other, waiting in self.pending.items():
                    if ("event", value) in waiting:
                        self.drain(other, until=value)

    def synchronize(self) -> None:
        """Run everything; freeing memory does so."""
        for stream in list(self.pending):
            self.drain(stream)

    def handle(self) -> int:
        self.handles += 1
        return self.handles

    def cudaGetErrorName(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, {2: b"cudaErrorMemoryAllocation", 600: b"cudaErrorNotReady"}.get(code, b"cudaErrorUnknown")

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, {2: b"out of memory", 600: b"device not ready"}.get(code, b"unknown")

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, self.devices

    def cudaGetDevice(self) -> tuple[int, int]:  # noqa: N802
        return 0, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802
        return 0, SimpleNamespace(name=self.name.encode() + b"\0", major=self.capability[0], minor=self.capability[1])

    def cudaMemGetInfo(self) -> tuple[int, int, int]:  # noqa: N802
        return 0, 8 << 30, 16 << 30

    def cudaRuntimeGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return 0, 12040

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        return 0, self._new(self.memory, size)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:  # noqa: N802
        return 0, self._new(self.pinned, size)

    def _new(self, where: dict[int, Any], size: int) -> int:
        block = (ctypes.c_uint8 * max(size, 1))()
        address = ctypes.addressof(block)
        where[address] = block
        return address

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        self.synchronize()
        del self.memory[address]
        return (0,)

    def cudaFreeHost(self, address: int) -> tuple[int]:  # noqa: N802
        self.synchronize()
        del self.pinned[address]
        return (0,)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: int) -> tuple[int]:  # noqa: N802
        ctypes.memmove(target, source, size)
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:  # noqa: N802
        self.kinds.append(kind)
        self.put(int(stream), lambda: _ignore(ctypes.memmove(target, source, size)))
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        handle = self.handle()
        self.streams.add(handle)
        return 0, handle

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        self.drain(int(stream))
        return (0,)

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        self.streams.remove(stream)
        return (0,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        handle = self.handle()
        self.streams.add(handle)  # counted like a stream
        return 0, handle

    def cudaEventDestroy(self, event: int) -> tuple[int]:  # noqa: N802
        self.streams.remove(event)
        return (0,)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:  # noqa: N802
        self.recorded.append((stream, event))
        self.pending.setdefault(int(stream), []).append(("event", event))
        return (0,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[int]:  # noqa: N802
        self.waits.append((stream, event))
        self.pending.setdefault(int(stream), []).append(("wait", event))
        return (0,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[int, float]:  # noqa: N802
        happened = {event for _, event in self.recorded}
        waiting = {value for queue in self.pending.values() for kind, value in queue if kind == "event"}
        if not {start, end} <= happened:
            return 400, 0.0  # cudaErrorInvalidResourceHandle
        return (600, 0.0) if {start, end} & waiting else (0, 1.5)  # 600: cudaErrorNotReady

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:  # noqa: N802
        self.recording[stream] = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int]:  # noqa: N802
        handle = self.handle()
        self.graphs[handle] = self.recording.pop(stream)
        return 0, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:  # noqa: N802
        handle = self.handle()
        self.executables[handle] = self.graphs[graph]
        return 0, handle

    def cudaGraphDestroy(self, graph: int) -> tuple[int]:  # noqa: N802
        del self.graphs[graph]
        return (0,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[int]:  # noqa: N802
        del self.executables[graph]
        return (0,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:  # noqa: N802
        for work in self.executables[graph]:
            self.put(int(stream), work)
        return (0,)

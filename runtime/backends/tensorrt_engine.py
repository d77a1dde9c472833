"""The TensorRT backend: a ``.plan`` on an NVIDIA GPU, without torch.

Two lanes take turns. Each has a stream, an execution context (one context cannot run twice at once), pinned and device buffers,
and a CUDA graph of copy in, network, copy out: while one lane computes, the other copies, and a tile costs one launch.
Only the named-tensor API is used, which is the same from TensorRT 8.5 to 11.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, MachineError, SrDeployError
from sr_deploy.files import read_bytes
from sr_deploy.runtime.backends.card_check import check_card
from sr_deploy.runtime.backends.cuda import INSTALL, Buffer, Cuda
from sr_deploy.runtime.backends.engine import Tiles, check_tiles
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.backends.plan_file import card_path, check_plan, read_plan_card

LANES = 2
PROFILES_SHARED_SINCE = (10, 0)
LEGACY_STREAM = 1  # of the CUDA array interface, version 3


def tensorrt_module() -> ModuleType:
    """Return the TensorRT bindings.

    Raises:
        MachineError: they are not installed or do not load.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as err:
        raise MachineError(f"TensorRT is not installed ({' '.join(str(err).split())}); {INSTALL}") from err
    found: ModuleType = tensorrt
    return found


def release_of(trt: Any) -> tuple[int, int]:
    """Return the major and minor version of the bindings."""
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


@dataclass
class DeviceTiles:
    """Tiles in device memory: float32 (n, c, h, w), freed with the object; readable by torch, cupy and pycuda."""

    cuda: Cuda
    address: int
    shape: tuple[int, ...]
    stream: int

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """The CUDA array interface, version 3."""
        return {"shape": self.shape, "typestr": "<f4", "data": (self.address, False), "version": 3, "stream": self.stream}

    def __del__(self) -> None:
        with suppress(SrDeployError):
            self.cuda.call("cudaFree", self.address)


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is loaded and run."""

    trt: Any  # the TensorRT bindings
    cuda: Cuda
    source: str  # the plan's name, for messages
    graphs: bool = True  # launch through CUDA graphs
    host_code: bool = False  # the user vouches for host code inside the plan


def load_plan(
    path: Path, *, graphs: bool = True, trusted: bool = False, trt: Any = None, cuda: Cuda | None = None
) -> TensorRTEngine:
    """Check a plan's identity, then load it.

    Args:
        path: the plan.
        graphs: whether to launch through CUDA graphs.
        trusted: whether the user vouches for a plan without a card or with host code (``--trust-plan``).
        trt: the TensorRT bindings; found if not given.
        cuda: CUDA's run-time; found if not given.

    Raises:
        InputError: the plan is missing, changed, or made for another TensorRT or GPU.
        MachineError: TensorRT, cuda-python or a GPU is missing.
        EngineError: TensorRT or CUDA failed.
    """
    content = read_bytes(path, advice="build it with sr-build")
    trt = tensorrt_module() if trt is None else trt
    cuda = Cuda() if cuda is None else cuda
    without_card = trusted and not card_path(path).is_file()
    plan = None if without_card else read_plan_card(path)
    options = PlanOptions(trt, cuda, str(path), graphs, trusted)
    if plan is None:
        card = read_card(path.with_suffix(".onnx"))
        check_card(card, source=str(path))
        return TensorRTEngine(content, card, (), options)
    check_card(plan.card, source=str(path))
    for line in check_plan(path, plan, content, facts_here(trt, cuda), trusted=trusted):
        print(f"warning: {line}", file=sys.stderr)
    return TensorRTEngine(content, plan.card, plan.identity.batches, options)


def facts_here(trt: Any, cuda: Cuda) -> dict[str, str]:
    """Return what a plan is bound to on this machine: ``tensorrt``, ``capability``, ``gpu``."""
    device = cuda.device()
    return {"tensorrt": str(trt.__version__), "capability": device.capability, "gpu": device.name}


class TensorRTEngine:
    """A plan loaded by TensorRT. Not safe to run from several threads at once: load one for each."""

    def __init__(self, content: bytes, card: ModelCard, batches: Sequence[int], options: PlanOptions) -> None:
        """Load a plan whose identity was checked; see :func:`load_plan`.

        Args:
            content: the plan.
            card: of the graph it was built from.
            batches: the batch sizes it was built for, one optimization profile each; none: what the plan says.
            options: how to load and run it.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        self._card, self.options, self.lanes = card, options, list[_Lane]()
        self.trt, self.cuda, self.source = options.trt, options.cuda, options.source
        self.runtime: Any = None
        self.engine: Any = None
        try:
            self.logger = logger_for(self.trt)
            self.logger.begin()
            self.runtime, self.engine = deserialized(content, self.logger, options)
            self.batches = tuple(batches) or self._own_batch()
            for _ in range(self._lane_count()):
                self.lanes.append(_Lane(self, graphs=options.graphs))
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> ModelCard:
        """The card of the graph the plan was built from."""
        return self._card

    @property
    def device_bytes(self) -> int:
        """Device memory of buffers and contexts, for ``sr-bench``."""
        return sum(lane.device_bytes for lane in self.lanes)

    def device_times_ms(self, rounds: int, batch: int | None = None, *, runs: int = 1) -> list[float]:
        """Return the device's own times of one batch (default: the largest) in milliseconds, copies left out, by CUDA events.

        With several ``runs`` between two events, the launches of one run are hidden behind the run before.
        """
        return [self.lanes[0].timed(max(self.batches) if batch is None else batch, runs) for _ in range(rounds)]

    def run(self, tiles: Any) -> Any:
        """Run the plan on any number of tiles; see :class:`sr_deploy.runtime.backends.engine.Engine`.

        An object with ``__cuda_array_interface__`` (float32, contiguous) is read where it is, on its own stream, and a
        :class:`DeviceTiles` comes back.
        """
        if not self.lanes:
            raise EngineError(f"{self.source}: the engine was closed; load it again")
        if hasattr(tiles, "__cuda_array_interface__"):
            return self._run_on_device(tiles.__cuda_array_interface__)
        check_tiles(tiles, self._card)
        return self._run_from_host(tiles)

    def close(self) -> None:
        """Free contexts, graphs, streams and buffers, then the engine; a second call does nothing."""
        lanes, self.lanes = self.lanes, []
        for lane in lanes:
            lane.close()
        self.engine = self.runtime = None

    def _lane_count(self) -> int:
        """Return the number of lanes: before TensorRT 10, a profile of a plan with several serves one context only."""
        return 1 if len(self.batches) > 1 and release_of(self.trt) < PROFILES_SHARED_SINCE else LANES

    def _own_batch(self) -> tuple[int, ...]:
        """Return the batch of a plan that comes without a card, and put it into the graph's card.

        Raises:
            EngineError: the plan has several, which only its card could name.
        """
        batch = _tensor_shape(self.engine, _names(self.trt, self.engine)[0])[0]
        if batch < 1:
            raise EngineError(f"{self.source}: is built for several batch sizes, which only its card names; build it again")
        self._card = self._card.with_batch(batch)
        return (batch,)

    def _run_from_host(self, tiles: Tiles) -> Tiles:
        assert self._card.output_shape is not None
        result = np.empty((len(tiles), *self._card.output_shape[1:]), np.float32)
        waiting: list[tuple[_Lane, int, int] | None] = [None] * len(self.lanes)
        start = turn = 0
        while start < len(tiles):
            index = turn % len(self.lanes)
            lane = self.lanes[index]
            _collect(waiting[index], result)
            count = lane.submit(tiles[start:])
            waiting[index] = lane, start, count
            start, turn = start + count, turn + 1
        for offset in range(len(self.lanes)):
            _collect(waiting[(turn + offset) % len(self.lanes)], result)
        return result

    def _run_on_device(self, interface: dict[str, Any]) -> DeviceTiles:
        shape = tuple(int(n) for n in interface["shape"])
        assert self._card.input_shape is not None and self._card.output_shape is not None
        expected = self._card.input_shape[1:]
        strides = interface.get("strides")
        fits = len(shape) == 4 and shape[0] > 0 and shape[1:] == expected and strides in (None, _strides(shape))
        if interface["typestr"] != "<f4" or not fits:
            raise ValueError(
                f"device tiles are {interface['typestr']} {shape}, strides {strides}; "
                f"the engine takes contiguous float32 (n >= 1, {expected})"
            )
        lane, given = self.lanes[0], interface.get("stream")
        output_shape = (shape[0], *self._card.output_shape[1:])
        address = int(self.cuda.call("cudaMalloc", 4 * int(np.prod(output_shape))))
        result = DeviceTiles(self.cuda, address, output_shape, LEGACY_STREAM if given is None else int(given))
        if given is not None:
            self.cuda.follow(lane.stream, _stream_handle(given))
        lane.run_on_device(int(interface["data"][0]), address, shape[0])
        if given is None:
            self.cuda.wait(lane.stream)
        else:
            self.cuda.follow(_stream_handle(given), lane.stream)
        return result


class _Lane:
    """One stream with its buffers, and for each batch size a context whose addresses never change and its CUDA graph.

    Each batch size is an optimization profile of its own, and a context keeps its profile: TensorRT before 10 lets a profile
    serve one context only, and a captured graph is void once its context is changed.
    """

    def __init__(self, owner: TensorRTEngine, *, graphs: bool) -> None:
        self.owner, self.cuda, self.graphs = owner, owner.cuda, graphs
        self.stream: Any = None
        self.contexts: dict[int, Any] = {}
        self.buffers: list[Buffer] = []
        self.launchable: dict[int, Any] = {}
        card = owner.card
        assert card.input_shape is not None and card.output_shape is not None
        try:
            self.stream = self.cuda.new_stream()
            most = max(owner.batches)
            for shape in (card.input_shape, card.output_shape):
                self.buffers.append(Buffer(self.cuda, (most, *shape[1:])))
            for index, batch in enumerate(owner.batches):
                self.contexts[batch] = self._context(index, batch)
        except BaseException:
            self.close()
            raise

    @property
    def device_bytes(self) -> int:
        """Device memory of the buffers and the contexts."""
        engine = self.owner.engine
        scratch = engine.device_memory_size if release_of(self.owner.trt) < (11, 0) else engine.device_memory_size_v2
        return sum(buffer.size for buffer in self.buffers) + len(self.contexts) * int(scratch)

    def submit(self, tiles: Tiles) -> int:
        """Start the network on the next batch of ``tiles`` and return how many were taken."""
        batch = _batch_for(len(tiles), self.owner.batches)
        count = min(batch, len(tiles))
        source = self.buffers[0]
        source.array[:count] = tiles[:count]
        source.array[count:batch] = tiles[count - 1]
        if batch not in self.launchable:
            self._enqueue(batch)  # TensorRT allocates on its first run, which a capture would refuse
            self.cuda.wait(self.stream)
            self.launchable[batch] = self._captured(batch) if self.graphs else None
        if self.launchable[batch] is None:
            self._enqueue(batch)
        else:
            self.cuda.call("cudaGraphLaunch", self.launchable[batch], self.stream)
        return count

    def finish(self) -> NDArray[Any]:
        """Wait and return the output of the last batch; it is overwritten by the next."""
        self.cuda.wait(self.stream)
        return self.buffers[1].array

    def run_on_device(self, source: int, target: int, tiles: int) -> None:
        """Put the network on the lane's stream for tiles that lie on the device already, batch by batch."""
        given, returned = (self._bytes(buffer, 1) for buffer in self.buffers)
        start = 0
        while start < tiles:
            batch = _batch_for(tiles - start, self.owner.batches)
            count = min(batch, tiles - start)
            # Through the lane's own buffers: TensorRT wants aligned addresses, and a context must not be changed.
            self.cuda.on_device(self._device(0), source + start * given, count * given, self.stream)
            self._execute(batch)
            self.cuda.on_device(target + start * returned, self._device(1), count * returned, self.stream)
            start += count

    def timed(self, batch: int, runs: int) -> float:
        """Return the milliseconds that the network takes on a batch, as the device counts them."""
        begin, end = (self.cuda.call("cudaEventCreateWithFlags", 0) for _ in range(2))
        try:
            self.cuda.call("cudaEventRecord", begin, self.stream)
            for _ in range(runs):
                self._execute(batch)
            self.cuda.call("cudaEventRecord", end, self.stream)
            self.cuda.wait(self.stream)
            return float(self.cuda.call("cudaEventElapsedTime", begin, end)) / runs
        finally:
            for event in (begin, end):
                self._free("cudaEventDestroy", event)

    def close(self) -> None:
        """Free everything, in the order in which nothing is used after it is gone."""
        if self.stream is not None:
            with suppress(EngineError):
                self.cuda.wait(self.stream)
        for graph in self.launchable.values():
            if graph is not None:
                self._free("cudaGraphExecDestroy", graph)
        self.launchable, self.contexts = {}, {}
        for buffer in self.buffers:
            with suppress(EngineError):
                buffer.close()
        self.buffers = []
        stream, self.stream = self.stream, None
        if stream is not None:
            self._free("cudaStreamDestroy", stream)

    def _context(self, index: int, batch: int) -> Any:
        context = self.owner.engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.owner.source}: no execution context; the GPU has probably too little free memory")
        card, (given, returned) = self.owner.card, _names(self.owner.trt, self.owner.engine)
        assert card.input_shape is not None
        if len(self.owner.batches) > 1:
            self._must(context.set_optimization_profile_async(index, int(self.stream)), "set_optimization_profile_async")
            self.cuda.wait(self.stream)
            self._must(context.set_input_shape(given, (batch, *card.input_shape[1:])), "set_input_shape")
        self._must(context.set_tensor_address(given, self._device(0)), "set_tensor_address")
        self._must(context.set_tensor_address(returned, self._device(1)), "set_tensor_address")
        return context

    def _captured(self, batch: int) -> Any:
        with self.cuda.captured(self.stream) as graph:
            self._enqueue(batch)
        return graph[0]

    def _enqueue(self, batch: int) -> None:
        source, target = self.buffers
        assert source.host is not None and target.host is not None
        self.cuda.to_device(self._device(0), source.host, self._bytes(source, batch), self.stream)
        self._execute(batch)
        self.cuda.to_host(target.host, self._device(1), self._bytes(target, batch), self.stream)

    def _execute(self, batch: int) -> None:
        context = self.contexts[batch]
        self._must(context.execute_async_v3(int(self.stream)), "execute_async_v3")

    def _device(self, index: int) -> int:
        address = self.buffers[index].device
        assert address is not None
        return address

    def _bytes(self, buffer: Buffer, tiles: int) -> int:
        return tiles * (buffer.size // max(self.owner.batches))

    def _free(self, name: str, handle: Any) -> None:
        with suppress(EngineError):  # after a failure of the device everything fails; the first error was reported
            self.cuda.call(name, handle)

    def _must(self, worked: bool, call: str) -> None:
        if not worked:
            said = f": {self.owner.logger.last_error}" if self.owner.logger.last_error else ""
            raise EngineError(
                f"{self.owner.source}: TensorRT's {call} failed{said}; build it again with sr-build, or run its .onnx"
            )


def logger_for(trt: Any) -> Any:
    """Return the process's logger of these bindings: TensorRT keeps the first one it meets, so there is only ever one.

    It holds the errors since ``begin``, and writes everything to the file given there. An exception inside a callback would be
    lost in TensorRT: it is kept in ``stopped``, for the caller to raise.
    """
    found = getattr(trt, "_sr_deploy_logger", None)
    if found is not None:
        return found

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.begin()

        def begin(self, path: Path | None = None) -> None:
            self.path = path
            self.errors: list[str] = []
            self.stopped: BaseException | None = None

        @property
        def last_error(self) -> str:
            return self.errors[-1] if self.errors else ""

        def log(self, severity: Any, message: str) -> None:
            try:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    self.errors.append(" ".join(str(message).split()))
                if self.path is not None:
                    with self.path.open("a", encoding="utf-8") as stream:
                        stream.write(f"{getattr(severity, 'name', severity)}: {message}\n")
            except BaseException as err:
                self.stopped = self.stopped or err

    trt._sr_deploy_logger = Logger()
    return trt._sr_deploy_logger


def deserialized(content: bytes, logger: Any, options: PlanOptions) -> tuple[Any, Any]:
    """Return TensorRT's run-time and the engine in ``content``.

    Raises:
        EngineError: TensorRT does not start, or refuses the plan.
    """
    trt = options.trt
    try:
        runtime = trt.Runtime(logger)
    except TypeError as err:  # what its bindings raise for a null pointer
        raise EngineError(
            f"{options.source}: TensorRT {trt.__version__} does not start here ({logger.last_error or err})"
        ) from err
    if options.host_code and release_of(trt) >= (8, 6):
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        said = f"TensorRT {trt.__version__} cannot load it ({logger.last_error})"
        raise EngineError(f"{options.source}: {said}; build it again with sr-build")
    return runtime, engine


def _names(trt: Any, engine: Any) -> tuple[str, str]:
    """Return the names of the one input and the one output."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name) for name in names}
    inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(
            f"the plan has {len(inputs)} inputs and {len(outputs)} outputs, one of each is needed; build it again with sr-build"
        )
    return inputs[0], outputs[0]


def _tensor_shape(engine: Any, name: str) -> tuple[int, ...]:
    return tuple(int(n) for n in engine.get_tensor_shape(name))


def _collect(waiting: tuple[_Lane, int, int] | None, result: Tiles) -> None:
    if waiting is not None:
        lane, start, count = waiting
        result[start : start + count] = lane.finish()[:count]


def _batch_for(left: int, batches: Sequence[int]) -> int:
    """Return the batch to run next: the largest that is full, else the smallest."""
    return max((n for n in batches if n <= left), default=min(batches))


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(4 * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def _stream_handle(given: Any) -> int:
    return 0 if int(given) == LEGACY_STREAM else int(given)

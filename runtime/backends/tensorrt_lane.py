"""One lane of a TensorRT engine: a stream with buffers, contexts and CUDA graphs of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError
from sr_deploy.runtime.backends.cuda import Buffer
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.tensorrt_library import PlanOptions, input_and_output, release_of


@dataclass(frozen=True)
class Loaded:
    """A plan as TensorRT holds it: what all lanes of an engine share."""

    engine: Any  # TensorRT's own
    card: ModelCard  # of the graph the plan was built from
    batches: tuple[int, ...]  # one optimization profile each
    logger: Any
    options: PlanOptions


class Lane:
    """One stream with its buffers, and for each batch size a context whose addresses never change and its CUDA graph.

    Each batch size is an optimization profile of its own, and a context keeps its profile: TensorRT before 10 lets a profile
    serve one context only, and a captured graph is void once its context is changed.
    """

    def __init__(self, plan: Loaded) -> None:
        """Allocate the buffers and make the contexts.

        Raises:
            EngineError: TensorRT or CUDA failed; nothing is held then.
        """
        self.plan, self.cuda, self.graphs = plan, plan.options.cuda, plan.options.graphs
        self.stream: Any = None
        self.contexts: dict[int, Any] = {}
        self.buffers: list[Buffer] = []
        self.launchable: dict[int, Any] = {}
        card = plan.card
        assert card.input_shape is not None and card.output_shape is not None
        try:
            self.stream = self.cuda.new_stream()
            most = max(plan.batches)
            for shape in (card.input_shape, card.output_shape):
                self.buffers.append(Buffer(self.cuda, (most, *shape[1:])))
            for index, batch in enumerate(plan.batches):
                self.contexts[batch] = self._context(index, batch)
        except BaseException:
            self.close()
            raise

    @property
    def device_bytes(self) -> int:
        """Device memory of the buffers and the contexts."""
        engine = self.plan.engine
        scratch = engine.device_memory_size if release_of(self.plan.options.trt) < (11, 0) else engine.device_memory_size_v2
        return sum(buffer.size for buffer in self.buffers) + len(self.contexts) * int(scratch)

    def submit(self, tiles: Tiles) -> int:
        """Start the network on the next batch of ``tiles`` and return how many were taken."""
        batch = next_batch(len(tiles), self.plan.batches)
        count = min(batch, len(tiles))
        source = self.buffers[0]
        source.array[:count] = tiles[:count]
        source.array[count:batch] = tiles[count - 1]
        if batch not in self.launchable:
            self._enqueue(batch)  # TensorRT allocates on its first run, which a capture would reject
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
            batch = next_batch(tiles - start, self.plan.batches)
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
        context = self.plan.engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.plan.options.source}: no execution context; the GPU has probably too little free memory")
        card, (given, returned) = self.plan.card, input_and_output(self.plan.options.trt, self.plan.engine)
        assert card.input_shape is not None
        if len(self.plan.batches) > 1:
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
        return tiles * (buffer.size // max(self.plan.batches))

    def _free(self, name: str, handle: Any) -> None:
        with suppress(EngineError):  # after a failure of the device everything fails; the first error was reported
            self.cuda.call(name, handle)

    def _must(self, worked: bool, call: str) -> None:
        if not worked:
            said = f": {self.plan.logger.last_error}" if self.plan.logger.last_error else ""
            raise EngineError(
                f"{self.plan.options.source}: TensorRT's {call} failed{said}; build it again with sr-build, or run its .onnx"
            )


def next_batch(left: int, batches: Sequence[int]) -> int:
    """Return the batch to run next: the largest that is full, else the smallest."""
    return max((n for n in batches if n <= left), default=min(batches))

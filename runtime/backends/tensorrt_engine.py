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
from typing import Any

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, SrDeployError
from sr_deploy.files import read_bytes
from sr_deploy.runtime.backends.card_check import check_card
from sr_deploy.runtime.backends.cuda import Cuda
from sr_deploy.runtime.backends.engine import Gpu, Tiles, check_tiles
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.backends.plan_file import card_path, check_plan, read_plan_card
from sr_deploy.runtime.backends.tensorrt_lane import Lane, Loaded
from sr_deploy.runtime.backends.tensorrt_library import (
    PlanOptions,
    deserialize,
    facts_here,
    input_and_output,
    logger_for,
    release_of,
    tensorrt_module,
)

LANES = 2
PROFILES_SHARED_SINCE = (10, 0)
LEGACY_STREAM = 1  # of the CUDA array interface, version 3


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
        self._card, self.options, self.lanes = card, options, list[Lane]()
        self.trt, self.cuda, self.source = options.trt, options.cuda, options.source
        self.runtime: Any = None
        self.engine: Any = None
        try:
            self.logger = logger_for(self.trt)
            self.logger.begin()
            self.runtime, self.engine = deserialize(content, self.logger, options)
            self.batches = tuple(batches) or self._own_batch()
            for _ in range(self._lane_count()):
                self.lanes.append(Lane(Loaded(self.engine, self._card, self.batches, self.logger, options)))
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> ModelCard:
        """The card of the graph the plan was built from."""
        return self._card

    @property
    def provider(self) -> str:
        """``TensorRT``."""
        return "TensorRT"

    @property
    def gpu(self) -> Gpu:
        """The GPU it runs on."""
        from sr_deploy.runtime.backends import tensorrt_peak

        return Gpu(
            self.device_times_ms, self.device_bytes, lambda: tensorrt_peak.gpu_peak_tflops(self.options.trt, self.options.cuda)
        )

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
        while self.lanes:
            self.lanes.pop().close()
        self.engine = self.runtime = None  # in this order

    def _lane_count(self) -> int:
        """Return the number of lanes: before TensorRT 10, a profile of a plan with several serves one context only."""
        return 1 if len(self.batches) > 1 and release_of(self.trt) < PROFILES_SHARED_SINCE else LANES

    def _own_batch(self) -> tuple[int, ...]:
        """Return the batch of a plan that comes without a card, and put it into the graph's card.

        Raises:
            EngineError: the plan has several, which only its card could name.
        """
        batch = int(self.engine.get_tensor_shape(input_and_output(self.trt, self.engine)[0])[0])
        if batch < 1:
            raise EngineError(f"{self.source}: is built for several batch sizes, which only its card names; build it again")
        self._card = self._card.with_batch(batch)
        return (batch,)

    def _run_from_host(self, tiles: Tiles) -> Tiles:
        assert self._card.output_shape is not None
        result = np.empty((len(tiles), *self._card.output_shape[1:]), np.float32)
        waiting: list[tuple[Lane, int, int] | None] = [None] * len(self.lanes)
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


def _collect(waiting: tuple[Lane, int, int] | None, result: Tiles) -> None:
    if waiting is not None:
        lane, start, count = waiting
        result[start : start + count] = lane.finish()[:count]


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(4 * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def _stream_handle(given: Any) -> int:
    return 0 if int(given) == LEGACY_STREAM else int(given)

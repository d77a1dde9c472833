"""What flows through a graph while pictures go through it: the largest magnitudes and the histograms, in one pass.

The graph is cut into segments of few nodes each, so that only their values are held. Two tiles are under way at once, each
computed and counted by a thread of its own, which keeps two cores busy to the end; one, where a value is as large as
``LARGE_BYTES``. Histograms grow as larger values come
(``Counting``), and whole numbers are added up, so neither the order of the tiles nor the number of threads changes anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes, residual_outputs, value_bytes
from sr_deploy.export.sessions import Sessions
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.thresholds import Counting, Histogram

SEGMENT_BYTES = 2**25  # of the values that one segment makes
LARGE_BYTES = 2**26
AT_ONCE = 2  # tiles: more would hold more memory
EXTREMES = ("ReduceMax", "ReduceMin")

Values = NDArray[np.float32]


class TileSet(Protocol):
    """Tiles of a graph's shape, and how many they are."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Tiles]: ...


@dataclass(frozen=True)
class Activations:
    """What was seen."""

    maxima: dict[str, float]  # value of the graph -> its largest magnitude; of what is read by a ReLU alone, the ReLU's
    histograms: dict[str, Histogram]  # of each convolution's input by its name, of what ends a residual block as NAME.output


def activations(model: onnx.ModelProto, tiles: TileSet, sessions: Sessions) -> Activations:
    """Return what flows through an fp32 graph over all ``tiles``.

    Raises:
        InputError: something that is no finite number.
    """
    inputs = {node.name: node.input[0] for node in convolution_nodes(model)}
    inputs |= {f"{name}{OUTPUT_KEY}": value for name, value in residual_outputs(model).items()}
    watch = _watch_all(model, frozenset(inputs.values()), tiles, sessions)
    for value, behind in _rectified(model).items():
        watch.maxima[value] = watch.maxima[behind]
    order = [INPUT, *(name for node in model.graph.node for name in node.output)]
    histograms = {name: watch.counted[value].histogram() for name, value in inputs.items()}
    return Activations({name: watch.maxima[name] for name in order}, histograms)


def _watch_all(model: onnx.ModelProto, counted: frozenset[str], tiles: TileSet, sessions: Sessions) -> _Watch:
    """Return what was seen of all tiles: each is sent through the graph by one of ``AT_ONCE`` threads, and counted there."""
    at_once = 1 if max(value_bytes(model).values()) >= LARGE_BYTES else min(AT_ONCE, sessions.threads)
    graph = _Graph(model, counted, sessions.divided(at_once))
    idle, busy = [_Watch(graph) for _ in range(at_once)], set[Future[_Watch]]()
    with ThreadPoolExecutor(at_once) as pool, progress("calibrating", len(tiles)) as advance:
        for tile in tiles:
            if not idle:
                done, busy = wait(busy, return_when=FIRST_COMPLETED)
                idle += [watch.result() for watch in done]
            busy.add(pool.submit(idle.pop().add_, tile))
            advance("")
        idle += [watch.result() for watch in busy]
    for other in idle[1:]:
        idle[0].join_(other)
    return idle[0]


@dataclass(frozen=True)
class _Segment:
    """Some nodes of a graph in their order."""

    nodes: list[onnx.NodeProto]
    reads: tuple[str, ...]
    arrays: tuple[str, ...]  # made here, and counted or read later
    reduced: tuple[str, ...]  # made here, of which only the extremes matter
    done: frozenset[str]  # not read behind this segment


class _Graph:
    """The segments of a graph as sessions, which several threads may run at once."""

    def __init__(self, model: onnx.ModelProto, counted: frozenset[str], sessions: Sessions) -> None:
        self.counted = counted
        inferred, self.segments = _segments(model, counted)
        self.sessions = [sessions.open(_model_of(inferred, segment)) for segment in self.segments]


class _Watch:
    """What was seen of some of the tiles, one after another."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self.maxima: dict[str, float] = {}
        self.counted = {name: Counting() for name in graph.counted}
        self.spare: dict[tuple[int, ...], list[Values]] = {}  # buffers, by shape: memory is not asked for again and again

    def add_(self, tile: Tiles) -> _Watch:
        """Send a tile through all segments and count what comes out."""
        values: dict[str, Values] = {INPUT: tile}
        self._count_({INPUT: tile})
        for segment, session in zip(self.graph.segments, self.graph.sessions, strict=True):
            made = self._run(session, segment, values)
            for name in segment.reduced:
                self._raise_(name, *(float(made.pop(f"{name}.{kind}")) for kind in EXTREMES))
            self._count_(made)
            values |= made
            for name in segment.done - {INPUT}:
                array = values.pop(name)
                if array.nbytes < LARGE_BYTES:
                    self.spare.setdefault(array.shape, []).append(array)
        return self

    def join_(self, other: _Watch) -> None:
        """Take in what another one saw."""
        for name, largest in other.maxima.items():
            self._raise_(name, largest, largest)
        for name, counting in other.counted.items():
            self.counted[name].join_(counting)

    def _run(self, session: ort.InferenceSession, segment: _Segment, values: Mapping[str, Values]) -> dict[str, Values]:
        binding = session.io_binding()
        for name in segment.reads:
            binding.bind_cpu_input(name, values[name])
        made = {output.name: self._buffer(tuple(output.shape)) for output in session.get_outputs()}
        for name, array in made.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        session.run_with_iobinding(binding)
        return made

    def _buffer(self, shape: tuple[int, ...]) -> Values:
        found = self.spare.get(shape)
        return found.pop() if found else np.empty(shape, np.float32)

    def _count_(self, made: Mapping[str, Values]) -> None:
        for name, array in made.items():
            high, low = float(array.max()), float(array.min())
            self._raise_(name, high, low)
            if name in self.counted:
                self.counted[name].add_(array, max(high, -low))

    def _raise_(self, name: str, high: float, low: float) -> None:
        if not (math.isfinite(high) and math.isfinite(low)):
            raise InputError(f"{name}: is not a finite number on a calibration picture; the checkpoint is broken, train again")
        self.maxima[name] = max(self.maxima.get(name, 0.0), high, -low)


def _rectified(model: onnx.ModelProto) -> dict[str, str]:
    """Return the values that a ReLU alone reads, and its output: ONNX Runtime computes both at once.

    A magnitude that only the ReLU sees is of no interest: negative ones become zero behind it, in float16 too.
    """
    users = _users(model)
    return {
        name: users[name][0].output[0]
        for node in model.graph.node
        for name in node.output
        if [user.op_type for user in users.get(name, [])] == ["Relu"]
    }


def _users(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _segments(model: onnx.ModelProto, counted: Set[str]) -> tuple[onnx.ModelProto, list[_Segment]]:
    """Return the model with all its shapes, and its segments."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    sizes = value_bytes(inferred)
    rectified = _rectified(model)
    groups: list[list[onnx.NodeProto]] = [[]]
    held = 0
    for node in model.graph.node:
        made = sum(sizes.get(name, 0) for name in node.output if name not in rectified)
        if groups[-1] and held + made > SEGMENT_BYTES and not any(name in rectified for name in node.input):
            groups.append([])
            held = 0
        groups[-1].append(node)
        held += made
    return inferred, [_segment(groups, index, counted, rectified, inferred) for index in range(len(groups))]


def _segment(
    groups: Sequence[Sequence[onnx.NodeProto]],
    index: int,
    counted: Set[str],
    rectified: Mapping[str, str],
    model: onnx.ModelProto,
) -> _Segment:
    constants = {tensor.name for tensor in model.graph.initializer}
    made = [name for node in groups[index] for name in node.output]
    read = dict.fromkeys(name for node in groups[index] for name in node.input if name and name not in constants)
    later = {name for group in groups[index + 1 :] for node in group for name in node.input}
    arrays = tuple(name for name in made if name in counted or name in later)
    reduced = tuple(name for name in made if name not in arrays and name not in rectified)
    reads = tuple(name for name in read if name not in made)
    return _Segment(list(groups[index]), reads, arrays, reduced, frozenset({*reads, *arrays} - later))


def _model_of(model: onnx.ModelProto, segment: _Segment) -> onnx.ModelProto:
    """Return a segment as a model: outputs are its arrays, then the largest and the smallest of each reduced value."""
    nodes = list(segment.nodes)
    outputs = list(segment.arrays)
    for name in segment.reduced:
        for kind in EXTREMES:
            nodes.append(onnx.helper.make_node(kind, [name], [f"{name}.{kind}"], keepdims=0))
            outputs.append(f"{name}.{kind}")
    used = {name for node in segment.nodes for name in node.input}
    shapes = _shapes(model)
    graph = onnx.helper.make_graph(
        nodes,
        "segment",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name]) for name in segment.reads],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes.get(name, ())) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    return onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of each value of a graph whose shapes were inferred."""
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }

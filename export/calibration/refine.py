"""Thresholds refined by what they do to the picture: a few candidates around the histogram's choice, layer by layer.

A histogram knows the values of one tensor, not what becomes of an error in them. So each convolution alone is put in int8 and
the squared error of the *output* against the fp32 graph's is measured, on the calibration tiles that are richest in detail
(where large values are, which a threshold clips), relative to what fp32 itself is off the original: that is, nearly, in
decibels, so that no scale and no picture counts more than another. It is measured with the threshold of the
calibration method, then with larger and smaller ones (``STEPS``), as long as the error falls. The scale is an input of the
graph that follows from the convolution (``suffix``), so that one session serves all candidates and what comes before is computed
once, for as many convolutions as ``HELD_BYTES`` hold it of. A threshold beyond the largest magnitude seen clips nothing and gains
nothing: it is not tried. One that is worse already on some of the tiles is not tried on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sr_deploy.export.accuracy.selection import Sample, SelectionSet
from sr_deploy.export.accuracy.sensitivity import Taps
from sr_deploy.export.graphs.quantize import scale_of
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes, value_bytes
from sr_deploy.export.graphs.suffix import Suffix, at_shape, suffix_of
from sr_deploy.export.photographs import HELD_BYTES
from sr_deploy.export.sessions import Sessions
from sr_deploy.measure import luma_of
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles

TILES = 4  # a scale
STEPS = (1.4, 1.2, 1.1)  # factors between candidates: coarse first
LEAST_OWN_ERROR = 1.0  # squared grey levels: below it (48 dB) nobody sees a difference
CERTAIN = 1.0 + 1e-9  # a sum beyond another by more is above it in whatever order both are added up
MOST_FACTOR = 3.5  # away from where it began


def refine(
    model: onnx.ModelProto,
    thresholds: Mapping[str, float],
    samples: SelectionSet,
    sessions: Sessions,
    *,
    maxima: Mapping[str, float],
) -> dict[str, float]:
    """Return better thresholds, of the same names.

    Args:
        model: the fp32 graph; it is run at the shape of ``samples``.
        thresholds: of every convolution's input by its name, and ``NAME.output`` of what ends a residual block.
        samples: calibration pictures with their originals.
        sessions: what opens graphs.
        maxima: the largest magnitude of each value of the graph.
    """
    small = at_shape(model, samples.cut.shape)
    nodes = {node.name: node for node in convolution_nodes(model) if node.name in thresholds}
    suffixes = [suffix_of(small, name, thresholds) for name in nodes]
    chosen, found = richest(samples, TILES), dict(thresholds)
    with progress("refining", len(suffixes)) as advance:
        for together in groups_within(suffixes, value_bytes(small), HELD_BYTES // len(chosen)):
            taps = Taps(small, together, sessions)
            seen = [_seen(sample, taps) for sample in chosen]
            for suffix in together:
                node = nodes[suffix.name]
                values = {suffix.name: node.input[0], f"{suffix.name}{OUTPUT_KEY}": node.output[0]}
                own = {key: value for key, value in values.items() if key in thresholds}
                largest = {key: maxima[value] for key, value in own.items()}
                error = Error(suffix, own, seen, sessions)
                found |= refine_layer(error, {key: found[key] for key in own}, largest)
                advance(suffix.name)
    return found


def groups_within(suffixes: Sequence[Suffix], sizes: Mapping[str, int], limit: int) -> Iterator[list[Suffix]]:
    """Yield the suffixes in groups whose values, of ``sizes`` in bytes by name, take at most ``limit``, or one at a time."""
    group: list[Suffix] = []
    for suffix in suffixes:
        values = {value for one in (*group, suffix) for value in one.reads}
        if group and sum(sizes[value] for value in values) > limit:
            yield group
            group = []
        group.append(suffix)
    yield group


def refine_layer(
    error: Callable[[Mapping[str, float], float], float], start: Mapping[str, float], largest: Mapping[str, float]
) -> dict[str, float]:
    """Return the thresholds of one convolution that make its ``error`` least, one after the other from ``start``."""
    best = dict(start)
    for key in start:
        least = math.inf

        def with_threshold(threshold: float, key: str = key) -> float:
            nonlocal least
            found = error({**best, key: threshold}, least)
            least = min(found, least)
            return found

        best[key] = descend(with_threshold, best[key], largest=largest[key])
    return best


def descend(error: Callable[[float], float], start: float, *, largest: float) -> float:
    """Return the threshold of least ``error`` that is reached from ``start`` by ever smaller steps, at most ``largest``."""
    start = min(start, largest)
    best, least = start, error(start)
    for step in STEPS:
        for factor in (step, 1.0 / step):
            moved = False
            while True:
                candidate = min(best * factor, largest)
                if candidate == best or not 1.0 / MOST_FACTOR < candidate / start < MOST_FACTOR:
                    break
                found = error(candidate)
                if not found < least:
                    break
                best, least, moved = candidate, found, True
            if moved:
                break
    return best


def richest(samples: SelectionSet, count: int) -> list[Sample]:
    """Return the ``count`` tiles of each scale whose originals have the largest mean squared gradient."""
    found: dict[int, list[tuple[float, int, Sample]]] = {}
    for number, sample in enumerate(samples):
        luma = luma_of(sample.original)
        detail = float(np.square(np.diff(luma, axis=0)).mean() + np.square(np.diff(luma, axis=1)).mean())
        tiles = found.setdefault(sample.scale, [])
        tiles.append((detail, -number, sample))
        tiles.sort(key=lambda tile: tile[:2])
        del tiles[:-count]  # no more than these are held
    return [sample for tiles in found.values() for _, _, sample in tiles]


@dataclass(frozen=True)
class _Seen:
    """One tile through the fp32 graph."""

    expected: Tiles
    values: Mapping[str, Tiles]
    own_error: float  # mean squared error of fp32 against the original, in [0, 1]


def _seen(sample: Sample, taps: Taps) -> _Seen:
    expected, values = taps.run(sample.tile)
    error, pixels = sample.squared_error(expected)
    return _Seen(expected, values, max(error / pixels, LEAST_OWN_ERROR) / 255.0**2)


class Error:
    """The mean error of the output, over fp32's own, with one convolution alone in int8, by its thresholds."""

    def __init__(self, suffix: Suffix, values: Mapping[str, str], seen: Sequence[_Seen], sessions: Sessions) -> None:
        """Open the graph of ``suffix`` with the scales of ``values``, by the names of their thresholds, as inputs."""
        model = onnx.ModelProto()
        model.CopyFrom(suffix.model)
        scales = {f"{value}.scale" for value in values.values()}
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in scales]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        model.graph.input.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in sorted(scales))
        self.session, self.values = sessions.open(model, exact=True), values
        self.tiles = [(tile, {name: tile.values[name] for name in suffix.reads}) for tile in seen]
        self.order: Sequence[int] = range(len(seen))  # of the tiles: those of the largest errors first

    def __call__(self, thresholds: Mapping[str, float], least: float = math.inf) -> float:
        """Return the error, or infinity where some of the tiles tell that it is above ``least``."""
        scales = {f"{self.values[key]}.scale": np.array(scale_of(t), np.float32) for key, t in thresholds.items()}
        found = [0.0] * len(self.tiles)
        for place in self.order:
            tile, reads = self.tiles[place]
            output = self.session.run(None, {**reads, **scales})[0]
            found[place] = float(np.square(output.astype(np.float64) - tile.expected).mean()) / tile.own_error
            if sum(found) > least * len(found) * CERTAIN:
                return math.inf
        self.order = sorted(self.order, key=lambda place: -found[place])
        return float(np.mean(found))

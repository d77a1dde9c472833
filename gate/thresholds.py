"""Whether an int8 engine's thresholds are those that photographs ask for.

A threshold twice too large may cost no more than a few hundredths of a decibel on ten pictures: clipping less makes up for
rounding more, and the picture that would show it is the one not in the set. So thresholds are compared directly: what
flows into each convolution of the fp32 network on the gate's own pictures is counted, the engine's calibration method
chooses a threshold from that, and both are set in relation. Other photographs move a single threshold by up to two, where few
large values decide, but not all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.degrade import crop_to_multiple, network_pair
from sr_deploy.errors import InputError
from sr_deploy.files import is_checkpoint
from sr_deploy.gate.models import network_at, open_checkpoint
from sr_deploy.planes import read_measured
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.onnx_engine import open_probe
from sr_deploy.runtime.backends.onnx_file import Graph, read_graph
from sr_deploy.runtime.upscaling.tiling import batch_at, evenly, tile_corners

PIXELS = 2**20  # at most, in tiles evenly chosen; a threshold depends little on more
QMAX = 127
TINY = 1e-30  # what never exceeds it asks for no threshold

Probe = Callable[[Tiles], list[NDArray[np.float32]]]


def off_by(ratio: float) -> float:
    """Return by what factor a ratio is off, in either direction: at least 1."""
    return max(ratio, 1.0 / ratio) if ratio > 0.0 else math.inf


def typical(ratios: Mapping[str, float]) -> float:
    """Return the factor by which thresholds are off together: that of their geometric mean."""
    if any(ratio <= 0.0 for ratio in ratios.values()):
        return math.inf
    return off_by(math.exp(sum(math.log(ratio) for ratio in ratios.values()) / len(ratios)))


def worst(ratios: Mapping[str, float]) -> tuple[float, str]:
    """Return the factor of the threshold furthest off, and its convolution."""
    name = max(ratios, key=lambda name: off_by(ratios[name]))
    return off_by(ratios[name]), name


class Judge:
    """Compares the thresholds of engines with what one fp32 network needs on the same pictures, measured once."""

    def __init__(self, reference: Path, paths: Sequence[Path], *, threads: int | None = None) -> None:
        """Remember the fp32 graph or checkpoint and the pictures; nothing is measured yet."""
        self.reference, self.paths, self.threads = reference, paths, threads
        self.measured: dict[tuple[object, ...], dict[str, float]] = {}

    def ratios(self, engine: Path, card: ModelCard, scale: int) -> dict[str, float]:
        """Return each threshold of an engine over the one the pictures ask for, by convolution.

        Empty: not an int8 ``.onnx`` engine, or its card names no calibration method.
        """
        if engine.suffix != ".onnx" or card.precision != "int8" or card.calibration is None:
            return {}
        found = thresholds_in(read_graph(engine))
        # Thresholds that several scales share are asked for by the pictures at all of these.
        scales = card.scales if card.calibrated_scale is None else (scale,)
        key = (tuple(found), card.input_shape, card.calibration, scales)
        if key not in self.measured:
            self.measured[key] = self._expected(list(found), card, scales)
        return {name: found[name] / value for name, value in self.measured[key].items()}

    def _expected(self, names: Sequence[str], card: ModelCard, scales: Sequence[int]) -> dict[str, float]:
        """Return the thresholds that the card's calibration method chooses on the pictures, where anything flows at all."""
        from sr_deploy.thresholds import METHODS, Counting, choose

        if not names or card.calibration not in METHODS:
            return {}
        assert card.input_shape is not None
        probe = open_inputs(self.reference, names, scales[0], threads=self.threads)
        limit = max(1, PIXELS // math.prod(card.input_shape[2:]))
        every = [(path, scale, corner) for path in self.paths for scale in scales for corner in corners(path, scale, card)]
        places = evenly(every, limit)
        counted = [Counting() for _ in names]
        with progress("thresholds", len(places)) as advance:
            for tile in tiles(places, card):
                for counting, values in zip(counted, probe(tile), strict=True):
                    if np.isfinite(values).all():
                        counting.add_(values)
                advance("")
        histograms = [(name, counting.histogram()) for name, counting in zip(names, counted, strict=True)]
        usable = [(name, histogram) for name, histogram in histograms if histogram.maximum > TINY]
        return {name: choose(histogram, card.calibration, name=name) for name, histogram in usable}


def thresholds_in(graph: Graph) -> dict[str, float]:
    """Return the threshold of each convolution whose input is quantized, by the convolution's name."""
    found = {}
    for name, node in graph.convolutions.items():
        maker = graph.maker(node.inputs[0])
        if maker is not None and maker.kind in ("Relu", "LeakyRelu"):  # a float convolution behind an integer one
            maker = graph.maker(maker.inputs[0])
        if maker is not None and maker.kind == "DequantizeLinear" and maker.inputs[1] in graph.tensors:
            found[name] = QMAX * float(graph.tensors[maker.inputs[1]].astype(np.float64).max())
    return found


def open_inputs(reference: Path, names: Sequence[str], scale: int, *, threads: int | None = None) -> Probe:
    """Return a function from tiles to the inputs of the convolutions ``names`` of the fp32 network, in their order."""
    if not is_checkpoint(reference):
        convolutions = read_graph(reference).convolutions
        check_known(names, convolutions, reference)
        return open_probe(reference, [convolutions[name].inputs[0] for name in names], threads=threads)
    network, _ = network_at(*open_checkpoint(reference, threads=threads), scale)
    import torch

    modules = dict(network.named_modules())
    check_known(names, modules, reference)

    def probe(tile: Tiles) -> list[NDArray[np.float32]]:
        seen: dict[str, NDArray[np.float32]] = {}
        hooks = [
            modules[name].register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].numpy().copy()}))
            for name in names
        ]
        try:
            with torch.no_grad():
                network(torch.from_numpy(tile))
        finally:
            for hook in hooks:
                hook.remove()
        return [seen[name] for name in names]

    return probe


def check_known(names: Sequence[str], known: Collection[str], reference: Path) -> None:
    """Check that the reference has the convolutions of an engine.

    Raises:
        InputError: it lacks one.
    """
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{reference}: has no convolution {missing[0]}, which the engine has; name the checkpoint it was exported from"
        )


def corners(path: Path, scale: int, card: ModelCard) -> list[tuple[int, int]]:
    """Return the top-left corners of the tiles that cover a picture."""
    assert card.input_shape is not None
    h, w = crop_to_multiple(read_measured(path, card.color), scale).shape[-2:]
    step = 1 if card.upscale == "before" else scale
    return tile_corners((h // step, w // step), card.input_shape[2:])


def tiles(places: Sequence[tuple[Path, int, tuple[int, int]]], card: ModelCard) -> Iterator[Tiles]:
    """Yield float32 (n, c, h, w) in [0, 1] for each picture, scale and corner; a picture is read once a scale for its tiles."""
    assert card.input_shape is not None
    current: tuple[Path, int] | None = None
    planes = np.zeros((0, 0), np.float32)
    for path, scale, corner in places:
        if (path, scale) != current:
            current = path, scale
            planes = network_pair(read_measured(path, card.color), scale, card.upscale)[0] / np.float32(255.0)
        yield batch_at(planes, corner, card.input_shape)

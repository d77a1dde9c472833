"""What each convolution alone costs in int8: the figures behind every choice of what stays in floating point.

One convolution at a time computes in int8 (its input quantized by its threshold, its weights per output channel, its output
too where it ends a residual block), everything else in float32. Two figures a scale: agreement, the PSNR against the fp32
graph's own output, which no picture can hide; and drop, by how much the PSNR against the original falls. What comes before the
convolution is computed once for all of them, and tiles are no larger than ``SIDE``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from sr_deploy.card import Shape
from sr_deploy.console import table
from sr_deploy.export.accuracy.selection import Scorer, SelectionSet, drops_db
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import convolution_nodes, macs_by_convolution
from sr_deploy.export.graphs.suffix import Suffix, at_shape, suffix_of, with_taps
from sr_deploy.export.sessions import Sessions
from sr_deploy.measure import psnr_from_error
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.engine import Tiles

SIDE = 128  # pixels of a tile
HALOS = 3  # a tile is at least so many halos wide, or most of it would see its own border


@dataclass(frozen=True)
class LayerLoss:
    """What one convolution alone in int8 costs, by scale."""

    name: str
    macs: int  # multiplications of one run at the graph's shape
    agreement_db: dict[int, float]  # PSNR (peak 255) against the fp32 graph's output
    drop_db: dict[int, float]  # of the mean PSNR over the pictures
    shift_levels: dict[int, float]  # mean difference from the fp32 graph's output in grey levels, of the tile furthest off


def tile_shape(shape: Shape, halo: int, *, side: int = SIDE) -> Shape:
    """Return the shape of one tile to measure at, for a graph of input ``shape`` (n, c, h, w) and its halo in input pixels."""
    side = max(side, HALOS * halo)
    return 1, shape[1], min(side, shape[2]), min(side, shape[3])


def sensitivity(
    model: onnx.ModelProto,
    thresholds: Mapping[str, float],
    samples: SelectionSet,
    sessions: Sessions,
) -> list[LayerLoss]:
    """Return what each convolution that has a threshold costs alone in int8, in the order they run.

    Args:
        model: the fp32 graph; it is run at the shape of ``samples``.
        thresholds: of every convolution's input by its name, and ``NAME.output`` of what ends a residual block.
        samples: tiles with their originals, at each scale to measure at.
        sessions: what opens graphs.
    """
    macs = macs_by_convolution(model)
    small = at_shape(model, samples.cut.shape)
    names = [node.name for node in convolution_nodes(model) if node.name in thresholds]
    suffixes = [suffix_of(small, name, thresholds) for name in names]
    runs = [sessions.open(suffix.model, exact=True) for suffix in suffixes]
    taps = Taps(small, suffixes, sessions)
    reference, scorers = Scorer(), {name: Scorer() for name in names}
    apart: dict[tuple[str, int], list[float]] = {}
    shifts: dict[tuple[str, int], list[float]] = {}
    with progress("sensitivity", len(samples) * len(names)) as advance:
        for sample in samples:
            expected, values = taps.run(sample.tile)
            reference.add(sample, expected)
            for suffix, session in zip(suffixes, runs, strict=True):
                output = np.asarray(session.run(None, {name: values[name] for name in suffix.reads})[0], np.float32)
                scorers[suffix.name].add(sample, output)
                key, difference = (suffix.name, sample.scale), 255.0 * (output - expected)
                apart.setdefault(key, []).append(float(np.square(difference).mean()))
                shifts.setdefault(key, []).append(float(np.abs(difference.mean(axis=(0, 2, 3))).max()))
                advance(suffix.name)
    figures = reference.figures()
    return [
        LayerLoss(
            name,
            macs[name],
            {scale: psnr_from_error(float(np.mean(apart[name, scale]))) for scale in samples.scales},
            drops_db(scorers[name].figures(), figures),
            {scale: max(shifts[name, scale]) for scale in samples.scales},
        )
        for name in names
    ]


class Taps:
    """The fp32 graph with every value that one of ``suffixes`` reads, computed in one run."""

    def __init__(self, model: onnx.ModelProto, suffixes: Sequence[Suffix], sessions: Sessions) -> None:
        self.values = [v for v in dict.fromkeys(v for suffix in suffixes for v in suffix.reads) if v != INPUT]
        self.session = sessions.open(with_taps(model, self.values))

    def run(self, tile: Tiles) -> tuple[Tiles, dict[str, NDArray[np.float32]]]:
        """Return the output, and the inner values by name."""
        output, *inner = self.session.run(None, {INPUT: tile})
        return output, {INPUT: tile, **dict(zip(self.values, inner, strict=True))}


def report(losses: Sequence[LayerLoss], total: int) -> str:
    """Return the table as text; ``total`` is the number of multiplications of the graph."""
    scales = list(losses[0].drop_db)
    heading = ["convolution", "MACs %", *(f"drop x{s} dB" for s in scales), *(f"agreement x{s} dB" for s in scales)]
    rows = [
        [
            loss.name,
            f"{100 * loss.macs / total:.1f}",
            *(f"{loss.drop_db[s]:.3f}" for s in scales),
            *(f"{loss.agreement_db[s]:.1f}" for s in scales),
        ]
        for loss in losses
    ]
    note = "each convolution alone in int8: drop of PSNR, and agreement (PSNR) of the output with that of fp32"
    return f"{table([heading, *rows])}\n{note}"


def record(losses: Sequence[LayerLoss]) -> list[dict[str, object]]:
    """Return the figures for JSON."""
    return [asdict(loss) for loss in losses]

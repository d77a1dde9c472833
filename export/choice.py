"""What an export knows of int8 before anything is decided: thresholds, what layers cost, the graph of a choice of layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx

from sr_deploy.card import Shape
from sr_deploy.detail import check_detail
from sr_deploy.errors import InputError
from sr_deploy.export.accuracy.guard import Choice
from sr_deploy.export.accuracy.selection import SelectionSet
from sr_deploy.export.accuracy.sensitivity import LayerLoss, sensitivity, tile_shape
from sr_deploy.export.calibration.calibrate import Calibration
from sr_deploy.export.graphs.quantize import kept_by_default
from sr_deploy.export.job import Export
from sr_deploy.export.photographs import Cut
from sr_deploy.export.thresholds import thresholds_for
from sr_deploy.measure import luma_of
from sr_deploy.notes import NOTES


@dataclass(frozen=True, eq=False)
class Int8:
    """What an export needs to know of int8; each is found once, when it is asked for."""

    export: Export

    @cached_property
    def calibration(self) -> Calibration:
        """The thresholds."""
        return thresholds_for(self.export)

    @cached_property
    def losses(self) -> tuple[LayerLoss, ...]:
        """What each convolution alone in int8 costs, on smaller tiles than the graph's."""
        samples = selection(self.export, tile_shape(self.export.settings.shape, self.export.card.halo))
        return tuple(sensitivity(self.export.model, self.calibration.thresholds, samples, self.export.sessions))

    def graph(self, choice: Choice) -> onnx.ModelProto:
        """Return the int8 graph of a choice."""
        return choice.graph(self.export.model, self.calibration.thresholds, self.calibration.shifts)


def first_choice(export: Export) -> Choice:
    """Return what the options keep out of int8; what ``--keep`` names reads float activations too."""
    options = export.options
    kept = frozenset() if options.all_layers else kept_by_default(export.model)
    if export.learned is not None:
        kept = frozenset(export.learned.keep & export.card.layers.keys())  # a view of keys makes a set
    choice = Choice(kept, tuple(dict.fromkeys(options.keep)))
    if choice.floating >= export.macs.keys():
        raise InputError(f"--keep {' '.join(options.keep)}: no convolution is left for int8; keep fewer")
    return choice


def selection(export: Export, shape: Shape) -> SelectionSet:
    """Return the photographs to measure on in tiles of ``shape``, at every scale that is calibrated for."""
    assert export.selection is not None  # prepared where anything is measured
    cut = export.tiles.cut
    samples = SelectionSet(export.selection, Cut(cut.scales, shape, export.options.select_tiles, cut.upscale))
    for line in samples.skipped:
        NOTES.warning(f"left out: {line}")
    originals = (luma_of(sample.original) for sample in samples)
    check_detail(originals, str(samples.photographs.folder), least=2, advice="name a folder of photographs with --select")
    return samples

"""Refinement leaves out what cannot change a threshold: tiles, readings of what comes before, filters that nobody asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import onnxruntime as ort
import torch

from sr_deploy.export.accuracy.selection import SelectionSet
from sr_deploy.export.calibration import activations as watching
from sr_deploy.export.calibration import refine as module
from sr_deploy.export.calibration.activations import Activations, activations
from sr_deploy.export.calibration.bias import mean_rounded
from sr_deploy.export.calibration.refine import groups_within, refine
from sr_deploy.export.graphs import suffix
from sr_deploy.export.graphs.suffix import Suffix
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.export.sessions import Sessions
from sr_deploy.thresholds import choose
from sr_deploy.train.networks.registry import build


class Counted(Sessions):
    """Counts how often its sessions run."""

    def __init__(self) -> None:
        super().__init__(1)
        self.runs = 0

    def open(self, model: onnx.ModelProto, *, exact: bool = False) -> ort.InferenceSession:
        session, counter = super().open(model, exact=exact), self

        class Session:
            def run(self, *arguments: object) -> object:
                counter.runs += 1
                return session.run(*arguments)

        return Session()


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A small SRResNet in RGB."""
    torch.manual_seed(0)
    network = build("srresnet", config={"blocks": 1, "features": 8, "scale": 2, "colors": 3, "norm": 0})
    return graph_from_network(network.eval(), (1, 3, 24, 24))


@pytest.fixture(scope="module")
def samples(photos: Path) -> SelectionSet:
    """Tiles of photographs at x2."""
    return SelectionSet(Photographs(photos, "rgb"), Cut((2,), (1, 3, 24, 24), 8, "inside"))


@pytest.fixture(scope="module")
def seen(model: onnx.ModelProto, samples: SelectionSet) -> Activations:
    """What flows through the network on these tiles."""
    return activations(model, [sample.tile for sample in samples], Sessions(1))


@pytest.mark.parametrize("spoilt", [1.0, 0.3])
def test_what_is_left_out_changes_no_threshold(
    spoilt: float, model: onnx.ModelProto, samples: SelectionSet, seen: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {name: choose(histogram, "mse", name=name) * spoilt for name, histogram in seen.histograms.items()}
    quick, plain = Counted(), Counted()
    found = refine(model, start, samples, quick, maxima=seen.maxima)
    monkeypatch.setattr(module, "CERTAIN", np.inf)  # all tiles are tried
    monkeypatch.setattr(module, "HELD_BYTES", 2**60)
    monkeypatch.setattr(suffix, "narrow_tail", lambda model: model)
    assert found == refine(model, start, samples, plain, maxima=seen.maxima)
    assert (found != start) == (spoilt != 1.0) and quick.runs < 0.95 * plain.runs


def test_less_is_held_for_more_readings_of_what_comes_before(
    model: onnx.ModelProto, samples: SelectionSet, seen: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {name: choose(histogram, "minmax", name=name) for name, histogram in seen.histograms.items()}
    held, again = Counted(), Counted()
    found = refine(model, start, samples, held, maxima=seen.maxima)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    assert found == refine(model, start, samples, again, maxima=seen.maxima)
    assert again.runs - held.runs == module.TILES * (len([name for name in start if not name.endswith(".output")]) - 1)


def test_groups_hold_no_more_than_is_allowed() -> None:
    suffixes = [Suffix(name, onnx.ModelProto(), reads) for name, reads in (("a", ("x", "y")), ("b", ("y",)), ("c", ("y", "z")))]
    sizes = {"x": 1, "y": 2, "z": 3}
    names = [["".join(one.name for one in group) for group in groups_within(suffixes, sizes, limit)] for limit in (6, 5, 3, 0)]
    assert names == [["abc"], ["ab", "c"], ["ab", "c"], ["a", "b", "c"]]


def test_a_mean_after_rounding_takes_no_copy_of_all_channels() -> None:
    x = np.random.default_rng(0).standard_normal((1, 32, 96, 96)).astype(np.float32)
    plain = np.clip(np.rint(x / np.float32(0.01)), -128, 127).mean(axis=(0, 2, 3), dtype=np.float64) * 0.01
    tracemalloc.start()
    found = mean_rounded(x, 0.01)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found, plain) and peak < x.nbytes / 4


def test_large_values_are_computed_for_one_tile_at_a_time(
    model: onnx.ModelProto, samples: SelectionSet, seen: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches: list[watching._Watch] = []
    original = watching._Watch.__init__

    def begin(self: watching._Watch, graph: watching._Graph) -> None:
        watches.append(self)
        original(self, graph)

    monkeypatch.setattr(watching._Watch, "__init__", begin)
    tiles = [sample.tile for sample in samples]
    activations(model, tiles, Sessions(2))
    monkeypatch.setattr(watching, "LARGE_BYTES", 1)
    found = activations(model, tiles, Sessions(2))
    assert len(watches) == watching.AT_ONCE + 1 and not watches[-1].spare
    assert found.maxima == seen.maxima
    assert all(np.array_equal(one.counts, seen.histograms[name].counts) for name, one in found.histograms.items())

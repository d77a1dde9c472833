"""The one way through an engine: order, shared runs, errors that end it and errors that are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, SrDeployError
from sr_deploy.runtime.backends.engine import Engine, Tiles, WrappedEngine
from sr_deploy.runtime.upscaling.pipeline import Passage, through_engine
from sr_deploy.runtime.upscaling.stages import Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band, Span


def band(value: float) -> Band:
    """Return a band of one tile of one value."""
    return Band(0, np.full((1, 1, 8, 8), value, np.float32), (Span(0, 0, 8),), (0, 8), 1)


class Numbers(Passage):
    """Something whose bands are numbers, and which keeps its errors or not."""

    def __init__(self, *values: float, keeps: bool = False) -> None:
        self.values, self.keeps = values, keeps
        self.taken: list[object] = []
        self.error: Exception | None = None

    @property
    def alive(self) -> bool:
        return self.error is None

    def bands(self) -> Iterator[Band]:
        for value in self.values:
            if np.isnan(value):
                raise EngineError("cannot be cut")
            yield band(value)

    def put(self, band: Band, output: Tiles) -> None:
        self.taken.append(float(output.mean()))

    def computed(self) -> None:
        self.taken.append("computed")

    def finish(self) -> None:
        self.taken.append("finished")

    def failed(self, error: SrDeployError | MemoryError | OSError) -> None:
        if not self.keeps:
            raise error
        self.error = error


class Doubling(WrappedEngine):
    """An engine that takes four tiles at once, doubles what is positive, and fails for others."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.card_of_four, self.runs = engine.card.with_batch(4), list[int]()

    @property
    def card(self) -> ModelCard:
        return self.card_of_four

    def run(self, tiles: Tiles) -> Tiles:
        self.runs.append(len(tiles))
        if (tiles < 0).any():
            raise EngineError("negative")
        return tiles * 2


def run(items: list[Numbers], engine: Engine, *, overlap: bool, alone: bool = False) -> list[tuple[int, bool]]:
    """Return the numbers of the items in the order in which they come out, and whether they are finished."""
    with Stages(overlap=overlap) as stages:
        steps = through_engine(iter(items), engine, stages, StageTimes(), full=lambda waiting: alone)
        return [(items.index(item), finished) for item, finished in steps]


@pytest.mark.parametrize("overlap", [True, False])
def test_everything_comes_out_in_order_and_small_items_share_a_run(identity: Engine, overlap: bool) -> None:
    items, engine = [Numbers(1, 2), Numbers(), Numbers(3, 4, 5)], Doubling(identity)
    found = run(items, engine, overlap=overlap)
    assert found == [(0, False), (0, False), (0, True), (1, True), (2, False), (2, False), (2, False), (2, True)]
    assert [[value for value in item.taken if value != "computed"] for item in items] == [
        [2.0, 4.0, "finished"],
        ["finished"],
        [6.0, 8.0, 10.0, "finished"],
    ]
    assert all("computed" in item.taken for item in items) and engine.runs == [4, 1]
    alone = Doubling(identity)
    run([Numbers(1, 2), Numbers(3)], alone, overlap=overlap, alone=True)
    assert alone.runs == [1, 1, 1]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_an_error_that_is_kept_costs_one_item(identity: Engine, overlap: bool, wrong: float) -> None:
    items = [Numbers(1, keeps=True), Numbers(2, wrong, keeps=True), Numbers(3, keeps=True)]
    found = run(items, Doubling(identity), overlap=overlap)
    assert [number for number, finished in found if finished] == [0, 1, 2]
    assert [item.alive for item in items] == [True, False, True]
    assert [item.taken[-1] == "finished" for item in items] == [True, False, True]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("wrong", "message"), [(-1.0, "negative"), (float("nan"), "cannot be cut")])
def test_an_error_that_is_not_kept_ends_the_run(identity: Engine, overlap: bool, wrong: float, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        run([Numbers(1), Numbers(wrong), Numbers(2)], Doubling(identity), overlap=overlap)

"""Bands in groups that fill a batch."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.batches import MOST_WAITING, groups, run_together
from sr_deploy.runtime.upscaling.tiling import Band


def band(count: int, value: float = 0.0) -> Band:
    return Band(0, np.full((count, 1, 2, 2), value, np.float32), (), (0, 2), 1)


def counts(parts: list[tuple[str, Band | None]], batch: int) -> list[str]:
    return ["".join(name for name, _ in group) for group in groups(parts, batch)]


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, ["a", "A", "b", "B", "c", "C"]), (4, ["aAb", "B", "cC"]), (5, ["aAbBc", "C"]), (100, ["aAbBcC"])]
)
def test_parts_wait_until_a_batch_is_full(batch: int, expected: list[str]) -> None:
    parts = [("a", band(2)), ("A", None), ("b", band(2)), ("B", None), ("c", band(3)), ("C", None)]
    assert counts(parts, batch) == expected


def test_what_has_no_tiles_waits_for_nothing_and_never_for_ever() -> None:
    assert counts([("a", None), ("b", None)], 8) == ["a", "b"]
    parts: list[tuple[str, Band | None]] = [("a", band(1)), *[("b", None)] * (2 * MOST_WAITING)]
    assert len(counts(parts, 8)[0]) == MOST_WAITING


def test_each_band_gets_its_own_output() -> None:
    runs: list[int] = []

    def run(tiles: Tiles) -> Tiles:
        runs.append(len(tiles))
        return tiles + 1

    made = run_together(run, [band(2, 1.0), band(1, 2.0), band(3, 3.0)])
    assert runs == [6] and [(len(tiles), float(tiles.mean())) for tiles in made] == [(2, 2.0), (1, 3.0), (3, 4.0)]
    assert run_together(run, []) == [] and runs == [6]

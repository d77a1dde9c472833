from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.degrade import bicubic_pair, imresize
from sr_deploy.train.data.pairs import FRACTION, GRID, Degradation, Positions, box_means, draw, positions


def degradation(crop: NDArray[np.uint8], scale: int) -> Degradation:
    return Degradation(np.moveaxis(crop, -1, 0), scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_degraded_planes_keep_a_64th_of_a_level(crops: list[NDArray[np.uint8]], scale: int) -> None:
    made = degradation(crops[0], scale)
    for upscale in ("before", "inside"):
        given = made.given("before" if upscale == "before" else "inside")
        assert given.dtype == np.int16
        for channel in range(3):
            plane = crops[0][..., channel].astype(np.float32)
            expected = bicubic_pair(plane, scale)[0] if upscale == "before" else imresize(plane, 1.0 / scale)
            # half a step, and float32
            assert np.abs(given[channel] / FRACTION - expected).max() <= 0.5 / FRACTION + 1e-4


def test_the_detail_of_a_colour_picture_is_the_mean_over_channels(crops: list[NDArray[np.uint8]]) -> None:
    found = np.diff(degradation(crops[0], 2).running_weights(16, 1.0).reshape(-1), prepend=0.0)
    errors = []
    for channel in range(3):
        enlarged, hr = bicubic_pair(crops[0][..., channel].astype(np.float32), 2)
        errors.append((enlarged - hr).astype(np.float64) ** 2)
    expected = [np.mean([e[t : t + 16, x : x + 16].mean() for e in errors]) for t in range(0, 49, 8) for x in range(0, 49, 8)]
    assert found == pytest.approx(expected, rel=1e-6)  # differences of running sums


def test_positions_lie_on_a_grid_and_weigh_the_same() -> None:
    found = positions((64, 47), 16)
    assert (found.rows, found.columns) == ((64 - 16) // GRID + 1, (47 - 16) // GRID + 1)
    assert found.total == found.rows * found.columns


def test_a_position_is_drawn_alike_with_and_without_equal_weights() -> None:
    even = positions((100, 80), 16)
    weighed = Positions(even.rows, even.columns, np.cumsum(np.ones(even.rows * even.columns)).reshape(1, even.rows, even.columns))
    a, b = np.random.default_rng(0), np.random.default_rng(0)
    assert [even.draw(a) for _ in range(2000)] == [weighed.draw(b) for _ in range(2000)]


def test_what_weighs_nothing_is_never_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {draw(np.cumsum([0.0, 1.0, 0.0, 2.0, 0.0]), rng) for _ in range(200)} == {1, 3}


def test_box_means_average_each_window() -> None:
    plane = np.random.default_rng(0).random((9, 7))
    expected = np.lib.stride_tricks.sliding_window_view(plane, (3, 3)).mean(axis=(2, 3))
    assert box_means(plane, 3) == pytest.approx(expected, abs=1e-12)

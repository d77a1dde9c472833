"""Pictures of any size through one tile size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_deploy.errors import InputError
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.upscaling.tiling import Planes, grid_of, mirrored, run_bands, run_whole, spans, useful_share
from tests.runtime import tiny_onnx as tiny

WEIGHTS = tiny.random_weights((8, 8, 1))
CLOSE = 1e-5  # the same sums in another order: float32, values about 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Return an engine of 24x20 tiles and halo 3."""
    return load(tiny.write(tmp_path_factory.mktemp("small") / "m.onnx", WEIGHTS, (1, 1, 24, 20)), threads=1)


def picture(h: int, w: int, seed: int = 0) -> Planes:
    return np.random.default_rng(seed).random((1, h, w), np.float32)


def whole(planes: Planes, folder: Path) -> Planes:
    """Return the network's result for the whole picture mirrored at its edges, in one run of a graph of its shape, cut back."""
    extended = np.pad(planes, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    engine = load(tiny.write(folder / "whole.onnx", WEIGHTS, (1, 1, *extended.shape[1:])), threads=1)
    found: Planes = engine.run(extended[None])[0]
    return found[:, 3:-3, 3:-3]


@pytest.mark.parametrize("size", [(48, 64), (49, 64), (48, 65), (90, 122), (91, 123), (256, 256), (500, 700)])
def test_tiled_equals_whole_picture(random_file: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    planes = picture(*size)
    assert np.abs(run_whole(load(random_file, threads=1), planes) - whole(planes, tmp_path)).max() < CLOSE


def test_tiled_equals_whole_picture_at_many_sizes(small: Engine, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        planes = picture(int(rng.integers(24, 100)), int(rng.integers(20, 100)))
        assert np.abs(run_whole(small, planes) - whole(planes, tmp_path)).max() < CLOSE, planes.shape


def test_a_halo_one_too_small_is_noticed(tmp_path: Path) -> None:
    wrong = load(tiny.write(tmp_path / "m.onnx", WEIGHTS, (1, 1, 24, 20), halo=2), threads=1)
    planes = picture(60, 60)
    assert np.abs(run_whole(wrong, planes) - whole(planes, tmp_path)).max() > CLOSE


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (24, 1), (1, 300), (300, 1), (7, 13), (23, 19), (23, 90), (90, 19), (24, 19)])
def test_thin_pictures_are_defined_alike(small: Engine, tmp_path: Path, size: tuple[int, int]) -> None:
    planes = picture(*size)
    found = run_whole(small, planes)
    assert found.shape == planes.shape
    assert np.abs(found - whole(planes, tmp_path)).max() < CLOSE


def test_no_padding_of_the_network_is_seen_at_borders(small: Engine) -> None:
    """A flat picture becomes a flat one."""
    found = run_whole(small, np.full((1, 50, 70), 0.75, np.float32))
    assert np.ptp(found) < CLOSE


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_an_axis_is_mirrored_as_numpy_does(length: int) -> None:
    axis = np.arange(length)
    assert np.array_equal(mirrored(-20, length + 30, length), np.pad(axis, (20, 30), mode="symmetric"))


def test_a_batch_of_two_changes_nothing(small: Engine, tmp_path: Path) -> None:
    pairs = load(tiny.write(tmp_path / "m.onnx", WEIGHTS, (2, 1, 24, 20)), threads=1)
    planes = picture(70, 77)
    assert np.abs(run_whole(pairs, planes) - run_whole(small, planes)).max() < CLOSE


@pytest.mark.parametrize(("tile", "halo"), [(7, 3), (8, 3), (20, 3), (24, 3), (41, 20), (256, 20), (16, 0), (1, 0)])
def test_spans_partition_and_keep_the_halo(tile: int, halo: int) -> None:
    for length in range(1, tile + 300):
        found = spans(length, tile, halo)
        assert [s.low for s in found] == [0, *(s.high for s in found[:-1])]
        assert found[-1].high == length
        for s in found:
            assert s.start == -halo or -halo < s.start <= length + halo - tile  # a tile is no further out than it must
            assert s.low < s.high
            assert s.low - s.start >= halo
            assert s.start + tile - s.high >= halo


def test_no_more_tiles_than_needed() -> None:
    for length in range(1, 2000):
        assert len(spans(length, 256, 20)) == -(-length // 216)


@pytest.mark.parametrize("size", [(200, 50), (48, 64), (10, 10), (49, 300)])
def test_rows_are_asked_for_downwards_at_most_one_tile_at_once(random_file: Path, size: tuple[int, int]) -> None:
    planes, asked = picture(*size), []

    def rows(first: int, last: int) -> Planes:
        asked.append((first, last))
        return planes[:, first:last]

    bands = list(run_bands(load(random_file, threads=1), rows, size))
    assert all(0 <= first < last <= size[0] and last - first <= 48 for first, last in asked)
    assert asked == sorted(asked)
    assert len(asked) == len(bands)


def test_bands_partition_the_result(random_file: Path) -> None:
    planes = picture(200, 70)
    bands = list(run_bands(load(random_file, threads=1), lambda a, b: planes[:, a:b], (200, 70)))
    bottom = 0
    for top, band in bands:
        assert top == bottom
        assert band.shape[2] == 70
        bottom += band.shape[1]
    assert bottom == 200


@pytest.mark.parametrize("shape", [(1, 1, 6, 64), (1, 1, 64, 6), (1, 1, 4, 4)])
def test_a_tile_not_larger_than_twice_the_halo_is_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="not larger than twice the halo of 3 pixels"):
        grid_of(tiny.card_of(WEIGHTS, shape))


def test_useful_share_of_vdsr_is_71_percent() -> None:
    card = tiny.card_of(WEIGHTS, (1, 1, 256, 256)).with_changes(halo=20)
    assert useful_share(card) == pytest.approx((216 / 256) ** 2)
    assert round(100 * useful_share(card)) == 71

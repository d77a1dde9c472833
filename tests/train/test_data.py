from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.degrade import Plane, bicubic_pair, network_pair
from sr_deploy.errors import InputError
from sr_deploy.pictures import read_luma
from sr_deploy.train.data import FRACTION, GRID, DataConfig, PatchSource, box_means, make_pair
from sr_deploy.train.validation import load_validation


def source(
    folder: Path, *, workers: int = 1, scales: tuple[int, ...] = (2,), patch: int = 16, detail: float = 0.0
) -> PatchSource:
    return PatchSource(DataConfig((folder,), scales, patch, (1.0,), detail), workers=workers)


def half_flat(folder: Path) -> Path:
    """One picture whose left half is flat and whose right half is noise."""
    pixels = np.full((64, 128), 100, np.uint8)
    pixels[:, 64:] = np.random.default_rng(0).integers(0, 256, (64, 64))
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_network_that_enlarges_gets_the_small_patch_at_the_same_place(
    tmp_path: Path, crops: list[NDArray[np.uint8]], scale: int
) -> None:
    (tmp_path / "one").mkdir()
    Image.fromarray(crops[0]).save(tmp_path / "one" / "a.png")
    small, hr = network_pair(read_luma(tmp_path / "one" / "a.png"), scale, "inside")
    patches = PatchSource(DataConfig((tmp_path / "one",), (scale,), 12, (1.0,), 0.5, "inside"))
    given, original = patches.batch(size=12, seed=3, step=7)
    assert given.shape == (12, 1, 12 // scale, 12 // scale) and original.shape == (12, 1, 12, 12)
    stored = np.clip(np.rint(small * FRACTION), -(2**15), 2**15 - 1).astype(np.int64)
    for a, b in zip(as_integers(given, 255 * FRACTION), as_integers(original, 255), strict=True):
        place = place_of(b, hr)
        assert place is not None
        top, left, turns, mirror = place
        assert top % scale == left % scale == 0
        window = stored[top // scale : (top + 12) // scale, left // scale : (left + 12) // scale]
        assert np.array_equal(window, upright(a, turns, mirror))


def test_a_patch_that_is_no_multiple_of_the_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--patch 41 is no multiple of the scale 2; 96 is usual"):
        DataConfig((tmp_path,), (2,), 41, upscale="inside")


def as_integers(patches: torch.Tensor, factor: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.rint(patches[:, 0].double().numpy() * factor).astype(np.int64)
    return found


def upright(patch: NDArray[np.int64], turns: int, mirror: bool) -> NDArray[np.int64]:
    return np.rot90(patch[:, ::-1] if mirror else patch, -turns)


def place_of(patch: NDArray[np.int64], whole: Plane) -> tuple[int, int, int, bool] | None:
    """Return top, left, turns and mirror of where a patch was cut, found by comparing with every window."""
    windows = np.lib.stride_tricks.sliding_window_view(whole.astype(np.int64), patch.shape)
    for turns in range(4):
        for mirror in (False, True):
            hits = np.argwhere((windows == upright(patch, turns, mirror)).all(axis=(2, 3)))
            if len(hits):
                return int(hits[0, 0]), int(hits[0, 1]), turns, mirror
    return None


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patches_are_aligned_with_the_degraded_picture(tmp_path: Path, crops: list[NDArray[np.uint8]], scale: int) -> None:
    (tmp_path / "one").mkdir()
    Image.fromarray(crops[0]).save(tmp_path / "one" / "a.png")
    enlarged, hr = bicubic_pair(read_luma(tmp_path / "one" / "a.png"), scale)
    degraded, original = source(tmp_path / "one", scales=(scale,)).batch(size=12, seed=3, step=7)
    for a, b in zip(as_integers(degraded, 255 * FRACTION), as_integers(original, 255), strict=True):
        place = place_of(b, hr)
        assert place is not None
        top, left, turns, mirror = place
        expected = np.rint(enlarged * FRACTION)[top : top + 16, left : left + 16]
        assert np.array_equal(upright(a, turns, mirror), expected)


def test_patches_come_in_all_orientations_from_all_over(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> None:
    (tmp_path / "one").mkdir()
    Image.fromarray(crops[0]).save(tmp_path / "one" / "a.png")
    hr = read_luma(tmp_path / "one" / "a.png")
    _, original = source(tmp_path / "one").batch(size=120, seed=0, step=0)
    places = [place_of(b, hr) for b in as_integers(original, 255)]
    found = [place for place in places if place is not None]
    assert {place[2:] for place in found} == {(turns, mirror) for turns in range(4) for mirror in (False, True)}
    tops = [place[0] for place in found]
    assert min(tops) < 8
    assert max(tops) == 48


def test_same_batch_for_the_same_seed_and_step(photos: Path) -> None:
    a, b = source(photos, scales=(2, 3)), source(photos, scales=(2, 3), workers=3)
    for x, y in zip(a.batch(size=6, seed=1, step=4), b.batch(size=6, seed=1, step=4), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(("seed", "step"), [(2, 4), (1, 5)])
def test_another_seed_or_step_gives_another_batch(photos: Path, seed: int, step: int) -> None:
    data = source(photos)
    assert not torch.equal(data.batch(size=6, seed=1, step=4)[0], data.batch(size=6, seed=seed, step=step)[0])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_yields_the_same_batches(photos: Path, workers: int) -> None:
    data = source(photos)
    batches = data.batches(size=4, seed=0, first_step=5, workers=workers)
    found = list(islice(batches, 6))
    batches.close()
    for step, (degraded, original) in enumerate(found, start=5):
        expected = data.batch(size=4, seed=0, step=step)
        assert torch.equal(degraded, expected[0])
        assert torch.equal(original, expected[1])


def test_batch_has_one_channel_in_zero_to_one(photos: Path) -> None:
    degraded, original = source(photos).batch(size=3, seed=0, step=0)
    assert degraded.shape == original.shape == (3, 1, 16, 16)
    assert degraded.dtype == original.dtype == torch.float32
    assert original.min() >= 0.0
    assert original.max() <= 1.0


def test_every_scale_is_drawn(photos: Path) -> None:
    data = source(photos, scales=(2, 4))
    pairs = {scale: data.by_scale[scale][0] for scale in (2, 4)}
    data.by_scale = {scale: [pair] for scale, pair in pairs.items()}
    data.cumulative = {scale: np.ones(1) for scale in (2, 4)}
    degraded, original = data.batch(size=40, seed=0, step=0)
    drawn = []
    for a, b in zip(as_integers(degraded, 255 * FRACTION), as_integers(original, 255), strict=True):
        place = place_of(b, pairs[2].original.astype(np.float32))
        assert place is not None
        top, left, turns, mirror = place
        window = slice(top, top + 16), slice(left, left + 16)
        drawn.append(next(s for s in (2, 4) if np.array_equal(upright(a, turns, mirror), pairs[s].degraded[window])))
    assert 8 < drawn.count(2) < 32  # half of 40 draws, four standard deviations


def test_a_scale_named_twice_is_drawn_twice_as_often(photos: Path) -> None:
    once, twice = source(photos, scales=(2, 4)), source(photos, scales=(2, 4, 4))
    assert {scale: len(pairs) for scale, pairs in twice.by_scale.items()} == {2: 3, 4: 3}
    assert twice.patches == once.patches
    assert twice.config.scales.count(4) == 2


def test_shrunken_copies_are_used_too(photos: Path) -> None:
    config = DataConfig((photos,), (2,), 16, (1.0, 0.5), 0.0)
    assert sorted({pair.original.shape for pair in PatchSource(config).by_scale[2]}) == [(32, 32), (64, 64)]


def test_an_epoch_covers_the_pixels_once(photos: Path) -> None:
    assert source(photos, scales=(2, 4)).patches == 3 * 2 * 64 * 64 // 16**2


def test_pictures_that_cannot_be_used_are_named_and_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((15, 40), np.uint8)).save(photos / "small.png")
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert len(source(photos).by_scale[2]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert any(line.startswith(f"warning: left out: {photos}/broken.jpg: cannot be decoded") for line in lines)
    assert f"warning: left out: {photos}/small.png: 40x15 pixels is smaller than a 16x16 patch" in lines


def test_a_picture_as_large_as_a_patch_is_used(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    assert source(tmp_path).batch(size=2, seed=0, step=0)[0].shape == (2, 1, 16, 16)


def test_no_usable_picture_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((15, 40), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="no picture of at least 16x16 pixels; name other folders"):
        source(tmp_path)
    assert "small.png" in capsys.readouterr().err


def test_detail_draws_detailed_areas(tmp_path: Path) -> None:
    folder = half_flat(tmp_path / "half")

    def detailed(detail: float) -> float:
        _, original = source(folder, detail=detail).batch(size=200, seed=0, step=0)
        return float((original.amax((1, 2, 3)) > original.amin((1, 2, 3))).float().mean())

    # 112 of 128 - 16 + 1 positions: the patch reaches the noise from column 49 on, 64 of 113
    assert detailed(0.0) == pytest.approx(64 / 113, abs=0.12)  # three standard deviations of 200 draws
    assert detailed(1.0) > 0.97


def test_the_digest_is_of_the_pixels(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "p")
    assert source(photos).digest == source(tmp_path / "p").digest
    path = sorted((tmp_path / "p").iterdir())[0]
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert source(photos).digest != source(tmp_path / "p").digest


def test_flat_pictures_can_be_weighed_by_detail(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(tmp_path / "a.png")
    _, original = source(tmp_path, detail=1.0).batch(size=2, seed=0, step=0)
    assert torch.all(original == 93 / 255)  # 16 + 90 * 219 / 255: a grey picture counts as its RGB copy, studio range


def test_make_pair_keeps_a_64th_of_a_level(crops: list[NDArray[np.uint8]]) -> None:
    hr = crops[0][:63, :, 0].astype(np.float32)
    enlarged, cropped = bicubic_pair(hr, 4)
    pair = make_pair(hr, 4, DataConfig((), (4,), 16))
    assert pair.degraded.dtype == np.int16
    assert pair.original.dtype == np.uint8
    assert pair.original.shape == pair.degraded.shape == (60, 64)
    assert np.array_equal(pair.original, cropped)
    assert np.abs(pair.degraded / FRACTION - enlarged).max() <= 0.5 / FRACTION + 1e-4  # half a step, and float32


def test_make_pair_lays_a_grid_of_patch_positions(crops: list[NDArray[np.uint8]]) -> None:
    pair = make_pair(crops[0][..., 0].astype(np.float32), 2, DataConfig((), (2,), 16))
    columns = (64 - 16) // GRID + 1
    assert pair.columns == columns
    assert pair.cumulative.tolist() == list(range(1, columns**2 + 1))  # uniform


def test_box_means_average_each_window() -> None:
    plane = np.random.default_rng(0).random((9, 7))
    expected = np.lib.stride_tricks.sliding_window_view(plane, (3, 3)).mean(axis=(2, 3))
    assert box_means(plane, 3) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scales", [(), (1,), (2, 9)])
def test_scales_that_do_not_fit_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"scales \(.*\) do not fit; use integers from 2 to 8"):
        DataConfig((Path(),), scales)


@pytest.mark.parametrize("shrink", [(), (0.0,), (1.1,), (1.0, -0.5)])
def test_shrink_factors_that_do_not_fit_are_refused(shrink: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"down-scaling factors \(.*\) do not fit; use numbers from 0.05 to 1"):
        DataConfig((Path(),), shrink=shrink)


def test_validation_reads_every_picture(photos: Path) -> None:
    planes = load_validation(photos, (2, 3))
    assert [plane.shape for plane in planes] == [(64, 64)] * 3
    assert np.array_equal(planes[0], read_luma(photos / "0.png"))

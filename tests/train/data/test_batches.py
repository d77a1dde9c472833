from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.degrade import Plane, Upscale, bicubic_pair, network_pair
from sr_deploy.errors import InputError
from sr_deploy.planes import read_luma
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.pairs import FRACTION, Raster
from sr_deploy.train.loop.validation import load_validation
from tests.helpers.batches import equal, pictures_of


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
    given, original, _ = patches.batch(size=12, seed=3, step=7)
    assert given.shape == (12, 1, 12 // scale, 12 // scale) and original.shape == (12, 1, 12, 12)
    stored = np.clip(np.rint(small * FRACTION), -(2**15), 2**15 - 1).astype(np.int64)
    for a, b in zip(as_integers(given, 255 * FRACTION), as_integers(original, 255), strict=True):
        place = place_of(b, hr)
        assert place is not None
        top, left, turns, mirror = place
        assert top % scale == left % scale == 0
        window = stored[top // scale : (top + 12) // scale, left // scale : (left + 12) // scale]
        assert np.array_equal(window, upright(a, turns, mirror))


def as_integers(patches: torch.Tensor, factor: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.rint(patches[:, 0].double().numpy() * factor).astype(np.int64)
    return found


def upright(patch: NDArray[np.int64], turns: int, mirror: bool) -> NDArray[np.int64]:
    return np.rot90(patch[:, ::-1] if mirror else patch, -turns)


def whole(raster: Raster) -> Plane:
    """Return the only channel of what is kept."""
    (plane,) = np.asarray(raster[:, :, :], np.float32)
    return np.asarray(plane, np.float32)


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
    degraded, original, _ = source(tmp_path / "one", scales=(scale,)).batch(size=12, seed=3, step=7)
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
    _, original, _ = source(tmp_path / "one").batch(size=120, seed=0, step=0)
    places = [place_of(b, hr) for b in as_integers(original, 255)]
    found = [place for place in places if place is not None]
    assert {place[2:] for place in found} == {(turns, mirror) for turns in range(4) for mirror in (False, True)}
    tops = [place[0] for place in found]
    assert min(tops) < 8
    assert max(tops) == 48


def test_same_batch_for_the_same_seed_and_step(photos: Path) -> None:
    a, b = source(photos, scales=(2, 3)), source(photos, scales=(2, 3), workers=3)
    assert equal(a.batch(size=6, seed=1, step=4), b.batch(size=6, seed=1, step=4))


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
    for step, batch in enumerate(found, start=5):
        assert equal(batch, data.batch(size=4, seed=0, step=step))


def test_batch_has_one_channel_in_zero_to_one(photos: Path) -> None:
    degraded, original, _ = source(photos).batch(size=3, seed=0, step=0)
    assert degraded.shape == original.shape == (3, 1, 16, 16)
    assert degraded.dtype == original.dtype == torch.float32
    assert original.min() >= 0.0
    assert original.max() <= 1.0


def test_every_scale_is_drawn(photos: Path) -> None:
    data = source(photos, scales=(2, 4))
    pairs = {scale: pictures_of(data).by_scale[scale][0] for scale in (2, 4)}
    pictures_of(data).by_scale = {scale: [pair] for scale, pair in pairs.items()}
    pictures_of(data).cumulative = {scale: np.ones(1) for scale in (2, 4)}
    degraded, original, _ = data.batch(size=40, seed=0, step=0)
    drawn = []
    for a, b in zip(as_integers(degraded, 255 * FRACTION), as_integers(original, 255), strict=True):
        place = place_of(b, whole(pairs[2].original))
        assert place is not None
        top, left, turns, mirror = place
        window = slice(top, top + 16), slice(left, left + 16)
        drawn.append(next(s for s in (2, 4) if np.array_equal(upright(a, turns, mirror), whole(pairs[s].degraded)[window])))
    assert 8 < drawn.count(2) < 32  # half of 40 draws, four standard deviations


def test_a_scale_named_twice_is_drawn_twice_as_often(photos: Path) -> None:
    once, twice = source(photos, scales=(2, 4)), source(photos, scales=(2, 4, 4))
    assert {scale: len(pairs) for scale, pairs in pictures_of(twice).by_scale.items()} == {2: 3, 4: 3}
    assert twice.patches == once.patches
    assert twice.config.scales.count(4) == 2


def test_shrunken_copies_are_used_too(photos: Path) -> None:
    config = DataConfig((photos,), (2,), 16, (1.0, 0.5), 0.0)
    assert sorted({pair.size for pair in pictures_of(PatchSource(config)).by_scale[2]}) == [(32, 32), (64, 64)]


def test_an_epoch_covers_the_pixels_once(photos: Path) -> None:
    assert source(photos, scales=(2, 4)).patches == 3 * 2 * 64 * 64 // 16**2


def test_pictures_that_cannot_be_used_are_named_and_left_out(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.zeros((15, 40), np.uint8)).save(photos / "small.png")
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert len(pictures_of(source(photos)).by_scale[2]) == 3
    lines = caplog.messages
    assert len(lines) == 2 and {record.levelname for record in caplog.records} == {"WARNING"}
    assert any(line.startswith(f"left out: {photos}/broken.jpg: cannot be decoded") for line in lines)
    assert f"left out: {photos}/small.png: 40x15 pixels is smaller than a 16x16 patch" in lines


def test_a_picture_as_large_as_a_patch_is_used(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    assert source(tmp_path).batch(size=2, seed=0, step=0)[0].shape == (2, 1, 16, 16)


def test_no_usable_picture_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.zeros((15, 40), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="no picture of at least 16x16 pixels; name other folders"):
        source(tmp_path)
    assert "small.png" in caplog.text


def test_detail_draws_detailed_areas(tmp_path: Path) -> None:
    folder = half_flat(tmp_path / "half")

    def detailed(detail: float) -> float:
        _, original, _ = source(folder, detail=detail).batch(size=200, seed=0, step=0)
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
    _, original, _ = source(tmp_path, detail=1.0).batch(size=2, seed=0, step=0)
    assert torch.all(original == 93 / 255)  # 16 + 90 * 219 / 255: a grey picture counts as its RGB copy, studio range


def test_validation_reads_every_picture(photos: Path) -> None:
    planes = load_validation(photos, (2, 3))
    assert [plane.shape for plane in planes] == [(64, 64)] * 3
    assert np.array_equal(planes[0], read_luma(photos / "0.png"))


def test_validation_reads_the_pictures_it_is_given(photos: Path) -> None:
    planes = load_validation([photos / "2.png", photos / "0.png"], (2,))
    assert [plane.tolist() for plane in planes] == [read_luma(photos / name).tolist() for name in ("2.png", "0.png")]


def rgb(folder: Path, scale: int = 2, *, upscale: Upscale = "inside", detail: float = 0.0) -> PatchSource:
    return PatchSource(DataConfig((folder,), (scale,), 12, (1.0,), detail, upscale, colors=3))


@pytest.mark.parametrize("upscale", ["before", "inside"])
def test_colour_patches_are_of_one_place_in_every_channel(
    tmp_path: Path, crops: list[NDArray[np.uint8]], upscale: Upscale
) -> None:
    (tmp_path / "one").mkdir()
    Image.fromarray(crops[0]).save(tmp_path / "one" / "a.png")
    given, original, _ = rgb(tmp_path / "one", upscale=upscale, detail=0.5).batch(size=6, seed=3, step=7)
    side = 6 if upscale == "inside" else 12
    assert given.shape == (6, 3, side, side) and original.shape == (6, 3, 12, 12)
    for number in range(6):
        places = set()
        for channel in range(3):
            small, hr = network_pair(crops[0][..., channel].astype(np.float32), 2, upscale)
            place = place_of(as_integers(original[number : number + 1, channel : channel + 1], 255)[0], hr)
            assert place is not None
            places.add(place)
            top, left, turns, mirror = place
            step = 12 // side
            window = np.rint(small * FRACTION)[top // step : (top + 12) // step, left // step : (left + 12) // step]
            found = as_integers(given[number : number + 1, channel : channel + 1], 255 * FRACTION)[0]
            assert np.array_equal(window, upright(found, turns, mirror))
        assert len(places) == 1


def test_a_grey_picture_is_its_full_range_rgb_copy(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)
    pixels[0, :2] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = rgb(tmp_path)
    kept = np.asarray(pictures_of(data).by_scale[2][0].original[:, :, :])
    assert np.array_equal(kept, np.stack([pixels] * 3))
    _, original, _ = data.batch(size=4, seed=0, step=0)
    assert torch.equal(original[:, 0], original[:, 1]) and torch.equal(original[:, 0], original[:, 2])


def test_luma_and_colour_are_told_apart_by_the_digest(photos: Path) -> None:
    assert rgb(photos).digest != PatchSource(DataConfig((photos,), (2,), 12, (1.0,))).digest


def many_scales(folder: Path, patch: int = 9, upscale: Upscale = "inside") -> PatchSource:
    return PatchSource(DataConfig((folder,), (2, 3, 4), patch, (1.0,), 0.0, upscale, one_scale=True))


def test_one_scale_a_batch_gives_low_resolution_patches_of_one_size(photos: Path) -> None:
    data, seen = many_scales(photos), []
    for step in range(40):
        degraded, original, scale = data.batch(size=3, seed=0, step=step)
        assert scale is not None
        assert degraded.shape == (3, 1, 9, 9) and original.shape == (3, 1, 9 * scale, 9 * scale)
        seen.append(scale)
    assert all(4 < seen.count(scale) < 23 for scale in (2, 3, 4))  # 40 draws of a third, three standard deviations


def test_every_patch_of_a_batch_has_its_scale(photos: Path) -> None:
    data = many_scales(photos, patch=16, upscale="before")
    degraded, original, scale = data.batch(size=8, seed=0, step=1)
    assert scale is not None and original.shape == (8, 1, 16, 16)
    for a, b in zip(as_integers(degraded, 255 * FRACTION), as_integers(original, 255), strict=True):
        fitting = set()
        for pair in pictures_of(data).by_scale[scale]:
            place = place_of(b, whole(pair.original))
            if place is not None:
                top, left, turns, mirror = place
                window = whole(pair.degraded)[top : top + 16, left : left + 16]
                fitting.add(np.array_equal(upright(a, turns, mirror), window))
        assert fitting == {True}


def test_a_batch_of_mixed_scales_names_none(photos: Path) -> None:
    assert source(photos, scales=(2, 3)).batch(size=2, seed=0, step=0).scale is None


def test_an_epoch_counts_patches_at_the_side_of_each_scale(photos: Path) -> None:
    areas = {2: 64 * 64, 3: 63 * 63, 4: 64 * 64}
    assert many_scales(photos).patches == int(3 * sum(area / (9 * scale) ** 2 for scale, area in areas.items()))


def test_a_picture_too_small_for_the_largest_scale_serves_the_others(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> None:
    Image.fromarray(crops[0]).save(tmp_path / "a.png")
    Image.fromarray(crops[1][:20, :20]).save(tmp_path / "b.png")
    found = pictures_of(many_scales(tmp_path)).by_scale
    assert {scale: len(pairs) for scale, pairs in found.items()} == {2: 2, 3: 1, 4: 1}
    with pytest.raises(InputError, match="no picture of at least 68x68 pixels; name other folders"):
        many_scales(tmp_path, patch=17)

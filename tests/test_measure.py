from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from sr_deploy.degrade import Plane, Planes, bicubic_pair, imresize
from sr_deploy.measure import (
    EQUAL_DB,
    NO_NUMBER_DB,
    SEEN_DB,
    Score,
    bicubic,
    compare,
    fixed_pair,
    levels,
    lost_db,
    mean,
    psnr,
    score,
    shaved,
    ssim,
)


def noise(h: int, w: int, seed: int = 0) -> Plane:
    return np.rint(np.random.default_rng(seed).uniform(0.0, 255.0, (h, w))).astype(np.float32)


def smooth(h: int, w: int) -> Plane:
    y, x = np.mgrid[0:h, 0:w]
    return np.asarray(np.rint(128 + 60 * np.sin(x / 5.0) + 50 * np.cos(y / 7.0)), np.float32)


def brute_force_ssim(a: Plane, b: Plane) -> float:
    """Wang et al. 2004, window by window, variances as weighted mean squares around the weighted mean."""
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2.0 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x = a[top : top + 11, left : left + 11].astype(np.float64)
            y = b[top : top + 11, left : left + 11].astype(np.float64)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            vxy = (window * (x - mx) * (y - my)).sum()
            found.append((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


def test_psnr_of_one_level_everywhere() -> None:
    a = noise(8, 8)
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255


def test_psnr_of_equal_pictures_is_the_most_that_is_reported() -> None:
    assert psnr(noise(8, 8), noise(8, 8)) == EQUAL_DB
    almost = noise(8, 8) + np.float32(1e-4)  # 128 dB
    assert psnr(noise(8, 8), almost) == EQUAL_DB


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_psnr_is_always_a_number(value: float) -> None:
    assert psnr(noise(8, 8), np.full((8, 8), value, np.float32)) == NO_NUMBER_DB


def test_one_flat_picture_leaves_the_mean_a_number() -> None:
    flat = np.full((32, 32), 100, np.float32)
    found = mean([score(bicubic, plane, 2) for plane in (flat, smooth(32, 32))])
    assert found.psnr_db == pytest.approx((EQUAL_DB + score(bicubic, smooth(32, 32), 2).psnr_db) / 2)


def test_what_is_lost_of_what_nobody_sees_does_not_count() -> None:
    assert lost_db(30.0, 29.5) == 0.5 and lost_db(29.5, 30.0) == -0.5
    assert lost_db(EQUAL_DB, SEEN_DB) == 0.0 and lost_db(EQUAL_DB, SEEN_DB - 1.0) == pytest.approx(1.0)


def test_psnr_leaves_the_shaved_border_out() -> None:
    a = noise(9, 8)
    b = a.copy()
    b[:2] += 50
    b[:, -2:] += 50
    assert psnr(a, b, shave=2) == EQUAL_DB
    assert psnr(a, b, shave=1) < 30


def test_shaving_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="8x9 plane has nothing left after cutting 4"):
        shaved(noise(8, 9), 4)


def test_ssim_of_equal_pictures_is_one() -> None:
    assert ssim(noise(12, 12), noise(12, 12)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("other", [noise(16, 16, 1), smooth(16, 16) + 3, noise(16, 16) * 0.5])
def test_ssim_equals_the_formula_window_by_window(other: Plane) -> None:
    a = noise(16, 16)
    assert ssim(a, other.astype(np.float32)) == pytest.approx(brute_force_ssim(a, other), abs=1e-9)  # float64 both


def test_ssim_shaves_first() -> None:
    a, b = noise(20, 18), noise(20, 18, 1)
    assert ssim(a, b, shave=3) == ssim(a[3:-3, 3:-3], b[3:-3, 3:-3])


def test_ssim_of_less_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 11x11 pixels, 10x12 are left"):
        ssim(noise(14, 16), noise(14, 16), shave=2)


def test_levels_rounds_and_clips() -> None:
    plane = np.array([[-0.2, 0.0, 0.4999 / 255, 0.51 / 255, 1.0, 1.3]], np.float32)
    assert levels(plane).tolist() == [[0.0, 0.0, 0.0, 1.0, 255.0, 255.0]]


def test_score_hands_over_the_unrounded_shrunken_luma() -> None:
    hr, seen = noise(33, 35), []

    def enlarge(lr: Plane, scale: int) -> Plane:
        seen.append(lr)
        return bicubic(lr, scale)

    score(enlarge, hr, 2)
    assert np.array_equal(seen[0], imresize(hr[:32, :34], 0.5) / np.float32(255.0))


def test_score_hands_over_rgb_in_whole_grey_levels() -> None:
    bars = np.tile(np.repeat(np.array([0, 255, 0, 255, 0], np.float32), 7), (33, 1))
    hr, seen = np.stack([bars, noise(33, 35), smooth(33, 35)]), []

    def enlarge(lr: Planes, scale: int) -> Planes:
        seen.append(lr)
        return bicubic(lr, scale)

    score(enlarge, hr, 2)
    shrunk = imresize(hr[:, :32, :34], 0.5)
    assert shrunk.min() < 0.0 and shrunk.max() > 255.0  # bicubic overshoots
    assert np.array_equal(seen[0], np.clip(np.rint(shrunk), 0, 255).astype(np.float32) / np.float32(255.0))


def test_score_of_bicubic_equals_the_bicubic_pair() -> None:
    hr = smooth(41, 38)
    enlarged, cropped = bicubic_pair(hr, 3)
    assert score(bicubic, hr, 3) == compare(levels(enlarged / np.float32(255.0)), cropped, 3)


def test_score_of_the_original_is_perfect() -> None:
    hr = noise(32, 32)
    assert score(lambda _lr, _scale: hr / np.float32(255.0), hr, 2) == Score(EQUAL_DB, 1.0)


def test_fixed_protocol_gives_the_network_256_pixels() -> None:
    seen = []

    def restore(x: Plane) -> Plane:
        seen.append((x.shape, x.dtype))
        return x

    fixed_pair(restore, smooth(60, 90), 2)
    assert seen == [((256, 256), np.dtype(np.float32))]


def test_fixed_protocol_of_an_identity_at_256_is_bicubic() -> None:
    hr = smooth(256, 256)
    sr, cropped = fixed_pair(lambda x: x, hr, 4)
    assert compare(levels(sr), cropped, 4) == score(bicubic, hr, 4)  # cv2.resize to the same size copies


def test_fixed_protocol_resizes_bilinearly_there_and_back() -> None:
    hr = smooth(61, 90)
    enlarged, cropped = bicubic_pair(hr, 2)
    there = cv2.resize(enlarged / np.float32(255.0), (256, 256), interpolation=cv2.INTER_LINEAR)
    back = cv2.resize(there, (90, 60), interpolation=cv2.INTER_LINEAR)
    sr, original = fixed_pair(lambda x: x, hr, 2)
    assert np.array_equal(sr, back) and np.array_equal(original, cropped)


def test_mean_is_of_decibels() -> None:
    assert mean([Score(30.0, 0.75), Score(40.0, 0.25)]) == Score(35.0, 0.5)


def test_rgb_is_measured_in_luma() -> None:
    rng = np.random.default_rng(0)
    original = np.rint(rng.random((3, 24, 30), np.float32) * 255.0)
    made = np.clip(original + rng.integers(-9, 10, original.shape), 0, 255).astype(np.float32)
    found = compare(made, original, 2)
    weights = np.array([65.481, 128.553, 24.966]) / 255.0  # BT.601-7, studio range
    error = np.tensordot(weights, (made - original).astype(np.float64), axes=1)[2:-2, 2:-2]
    assert found.psnr_db == pytest.approx(10.0 * np.log10(255.0**2 / np.mean(error**2)), abs=1e-3)  # float32 luma
    blue = original.copy()
    blue[2] += np.where(blue[2] > 127.0, -40.0, 40.0)
    assert compare(blue, original, 2).psnr_db > psnr(blue, original, shave=2) + 10.0  # blue weighs little in luma


def test_bicubic_of_three_equal_channels_scores_as_its_studio_luma() -> None:
    grey = np.rint(np.random.default_rng(1).random((32, 32), np.float32) * 255.0)
    rgb = score(bicubic, np.stack([grey] * 3), 2).psnr_db
    given = levels(imresize(grey, 0.5) / np.float32(255.0)) / np.float32(255.0)
    expected = compare(levels(bicubic(given, 2)), grey, 2).psnr_db + 20.0 * np.log10(255.0 / 219.0)
    assert rgb == pytest.approx(expected, abs=1e-3)

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.luma import luma_from_rgb, rgb_from_ycbcr, ycbcr_from_rgb

# rgb2ycbcr of MATLAB for uint8: rounded Y, Cb, Cr
MATLAB = {
    (255, 255, 255): (235, 128, 128),
    (0, 0, 0): (16, 128, 128),
    (255, 0, 0): (81, 90, 240),
    (0, 255, 0): (145, 54, 34),
    (0, 0, 255): (41, 240, 110),
    (128, 128, 128): (126, 128, 128),
}


def pixel(rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.array([[rgb]], np.uint8)


def colours() -> NDArray[np.uint8]:
    steps = [0, 1, 31, 64, 127, 128, 200, 254, 255]
    return np.array([[(r, g, b) for g in steps for b in steps] for r in steps], np.uint8)


@pytest.mark.parametrize(("rgb", "expected"), MATLAB.items())
def test_equals_matlab(rgb: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    assert tuple(int(v) for v in np.rint(ycbcr_from_rgb(pixel(rgb))[:, 0, 0])) == expected


@pytest.mark.parametrize(("rgb", "expected"), [((255, 0, 0), 81.481), ((0, 255, 0), 144.553), ((0, 0, 255), 40.966)])
def test_luma_is_not_rounded(rgb: tuple[int, int, int], expected: float) -> None:
    assert luma_from_rgb(pixel(rgb))[0, 0] == pytest.approx(expected, abs=1e-4)  # float32


def test_luma_is_the_first_plane() -> None:
    rgb = colours()
    assert luma_from_rgb(rgb) == pytest.approx(ycbcr_from_rgb(rgb)[0], abs=1e-4)  # float32, another order of additions


def test_planes_stay_in_the_studio_range() -> None:
    planes = ycbcr_from_rgb(colours())
    assert planes.dtype == np.float32
    assert planes[0].min() >= 16 - 1e-3
    assert planes[0].max() <= 235 + 1e-3
    assert planes[1:].min() >= 16 - 1e-3
    assert planes[1:].max() <= 240 + 1e-3


def test_unrounded_round_trip_is_exact() -> None:
    rgb = colours()
    assert np.array_equal(rgb_from_ycbcr(ycbcr_from_rgb(rgb)), rgb)


def test_rounded_round_trip_stays_within_two_levels() -> None:
    rgb = colours()
    back = rgb_from_ycbcr(np.rint(ycbcr_from_rgb(rgb)))
    # half a level each of Y, Cb, Cr: blue moves by (0.5 * 1.16 + 0.5 * 2.02) = 1.6 at most, then rounds
    assert np.abs(back.astype(int) - rgb.astype(int)).max() <= 2


def test_overshooting_luma_is_clipped() -> None:
    planes = np.array([[[300.0, -50.0]], [[128.0, 128.0]], [[128.0, 128.0]]], np.float32)
    assert rgb_from_ycbcr(planes)[0].tolist() == [[255, 255, 255], [0, 0, 0]]

"""The arithmetic of videos: ranges, depths, matrices, pixel formats, and where colour samples lie."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.degrade import imresize
from sr_deploy.runtime.video.coding import (
    KR_KB,
    Coding,
    Samples,
    Sites,
    luma_from_studio,
    planes_from_rgb,
    recode_colour,
    resite,
    rgb_from_planes,
    studio_from_luma,
)

av = pytest.importorskip("av")
from sr_deploy.runtime.video.frames import PixelFormat, planar_format  # noqa: E402 -- needs PyAV

LEFT = Coding(across=Sites(2, 0.0), down=Sites(2, 0.5))  # 4:2:0 of H.264
MIDWAY = Coding(across=Sites(2, 0.5), down=Sites(2, 0.5))  # 4:2:0 of JPEG


@pytest.mark.parametrize(
    ("coding", "black", "white"),
    [(Coding(), 16, 235), (Coding(10), 64, 940), (Coding(full=True), 0, 255), (Coding(10, full=True), 0, 1023)],
)
def test_networks_get_studio_range(coding: Coding, black: int, white: int) -> None:
    assert studio_from_luma(np.array([[black, white]], np.uint16), coding) == pytest.approx(np.array([[16.0, 235.0]]))


@pytest.mark.parametrize("coding", [Coding(), Coding(10), Coding(12), Coding(full=True), Coding(10, full=True)])
def test_every_luma_code_comes_back(coding: Coding) -> None:
    codes: Samples = np.arange(coding.largest + 1, dtype=np.uint16)[None]
    assert np.array_equal(np.rint(luma_from_studio(studio_from_luma(codes, coding), coding)), codes)


@pytest.mark.parametrize("full", [False, True])
def test_neutral_colour_stays_neutral_in_another_depth(full: bool) -> None:
    made = recode_colour(np.full((1, 1), 512.0, np.float32), Coding(10, full), Coding(8, full))
    assert made == pytest.approx(128.0)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("weights", set(KR_KB.values()))
def test_rgb_comes_back_through_every_matrix(weights: tuple[float, float], full: bool) -> None:
    coding = Coding(10, full, weights=weights)
    rgb = np.random.default_rng(0).random((3, 6, 5), np.float32)
    luma, cb, cr = planes_from_rgb(rgb, coding)
    assert np.abs(rgb_from_planes(luma, (cb, cr), coding) - rgb).max() < 1e-5  # float32 sums


@pytest.mark.parametrize(("full", "white", "red"), [(False, 235, (63, 102, 240)), (True, 255, (54, 99, 256))])
def test_bt709_matches_the_recommendation(full: bool, white: int, red: tuple[int, int, int]) -> None:
    coding = Coding(full=full)
    rgb = np.array([[[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]], np.float32)
    made = np.rint(np.stack(planes_from_rgb(rgb, coding)))[:, 0]
    assert made[:, 0].tolist() == [white, 128, 128]
    assert made[:, 1].tolist() == pytest.approx(red, abs=0.5)  # BT.709-6, item 3.4 and 3.5; 255.5 rounds to 256, and is clipped


def test_equal_sites_are_plain_bicubic() -> None:
    plane: Samples = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
    plain = imresize(plane.astype(np.float32), 2.0)
    assert np.array_equal(resite(plane, (18, 14), 2, (Coding(), Coding())), plain)


def test_same_place_and_size_changes_nothing() -> None:
    plane: Samples = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
    assert np.array_equal(resite(plane, (9, 7), 1, (LEFT, LEFT)), plane)


@pytest.mark.parametrize("source", [LEFT, MIDWAY])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_colour_stays_where_luma_is(source: Coding, scale: int) -> None:
    """A ramp of colour along x, sampled where the source says, is the same ramp in the result, where its samples lie."""
    sampled = np.arange(20) * 2.0 + source.across.first
    plane: Samples = np.repeat(sampled[None].astype(np.float32), 20, axis=0)
    made = resite(plane, (20 * scale, 20 * scale), scale, (source, LEFT))
    places = (2.0 * np.arange(20 * scale) + 0.5) / scale - 0.5
    inner = slice(4 * scale, -4 * scale)
    assert made[0, inner] == pytest.approx(places[inner], abs=1e-4)  # a cubic kernel reproduces ramps


def test_taking_sites_for_midway_would_move_colour() -> None:
    sampled = np.arange(20) * 2.0
    plane: Samples = np.repeat(sampled[None].astype(np.float32), 20, axis=0)
    right, wrong = (resite(plane, (40, 40), 2, (coding, LEFT))[0, 10:30] for coding in (LEFT, MIDWAY))
    assert (right - wrong).mean() == pytest.approx(0.5, abs=1e-3)


def test_mirrored_sites_lie_where_the_samples_went() -> None:
    assert LEFT.across.flipped(8, 4) == Sites(2, 1.0)  # samples at 0, 2, 4, 6 of 8 are at 7, 5, 3, 1
    assert LEFT.across.flipped(7, 4) == Sites(2, 0.0)
    assert LEFT.down.flipped(8, 4) == LEFT.down


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vuya", PixelFormat((1, 1), 8)),
        ("xv36le", PixelFormat((1, 1), 12)),
        ("nv24", PixelFormat((1, 1), 8)),
        ("nv12", PixelFormat((2, 2), 8)),
        ("yuyv422", PixelFormat((2, 1), 8)),
        ("ya8", PixelFormat((1, 1), 8, grey=True)),
        ("gray", PixelFormat((1, 1), 8, grey=True)),
        ("argb", PixelFormat((1, 1), 8)),
    ],
)
def test_packed_colours_are_colours(name: str, expected: PixelFormat) -> None:
    assert planar_format(av.VideoFormat(name, 16, 16)) == expected

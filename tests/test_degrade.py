from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.degrade import Plane, axis_weights, bicubic_pair, crop_to_multiple, cubic, enlarge_band, imresize, network_pair
from sr_deploy.files import list_pictures
from sr_deploy.measure import levels, psnr, ssim
from sr_deploy.planes import read_luma
from tests.conftest import Outside


def noise(h: int, w: int, seed: int = 0) -> Plane:
    return np.random.default_rng(seed).uniform(0.0, 255.0, (h, w)).astype(np.float32)


def keys(x: float) -> float:
    x = abs(x)
    if x <= 1.0:
        return 1.5 * x**3 - 2.5 * x**2 + 1.0
    return -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0 if x <= 2.0 else 0.0


def matlab_row(row: list[float], scale: float) -> list[float]:
    """MATLAB's ``imresize`` of one row, written after its ``contributions``: one-based, one sample at a time."""
    n, shrink = len(row), min(scale, 1.0)
    width = 4.0 / shrink
    mirrored = [*row, *reversed(row)]
    out = []
    for x in range(1, math.ceil(n * scale - 1e-9) + 1):
        u = x / scale + 0.5 * (1.0 - 1.0 / scale)
        left = math.floor(u - width / 2.0)
        taps = [left + k for k in range(math.ceil(width) + 2)]
        weights = [shrink * keys(shrink * (u - t)) for t in taps]
        out.append(sum(w * mirrored[(t - 1) % (2 * n)] for w, t in zip(weights, taps, strict=True)) / sum(weights))
    return out


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("set5", 2, 33.66),
        ("set5", 3, 30.39),
        ("set5", 4, 28.42),
        ("set14", 2, 30.23),
        ("set14", 3, 27.54),
        ("set14", 4, 26.00),
    ],
)
def test_bicubic_pair_reproduces_the_published_psnr(outside: Outside, name: str, scale: int, expected: float) -> None:
    found = []
    for path in list_pictures(outside(name)):
        enlarged, hr = bicubic_pair(read_luma(path), scale)
        found.append(psnr(levels(enlarged / np.float32(255.0)), hr, shave=scale))
    assert np.mean(found) == pytest.approx(expected, abs=0.02)  # published figures have two decimals, tools differ by 0.01


def test_bicubic_pair_reproduces_the_published_ssim_of_set5(outside: Outside) -> None:
    pairs = [bicubic_pair(read_luma(path), 2) for path in list_pictures(outside("set5"))]
    found = [ssim(levels(enlarged / np.float32(255.0)), hr, shave=2) for enlarged, hr in pairs]
    assert np.mean(found) == pytest.approx(0.930, abs=0.002)  # 0.9299 in the papers


def test_cubic_kernel_interpolates() -> None:
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 2.5, 0.5])
    assert cubic(x).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5625]


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 0.7, 1.0, 2.0, 3.0, 4.0])
def test_row_weights_sum_to_one(scale: float) -> None:
    axis = axis_weights(17, math.ceil(17 * scale), scale)
    assert axis.weights.sum(axis=1) == pytest.approx(1.0, abs=1e-6)  # at most 18 float32 weights


def test_shrinking_by_two_uses_the_stretched_kernel() -> None:
    # 0.5 * cubic(0.5 * d) for d = 0.5, 1.5, 2.5, 3.5, worked out by hand; all are exact in binary
    half = [0.43359375, 0.11328125, -0.03515625, -0.01171875]
    axis = axis_weights(32, 16, 0.5)
    assert axis.weights[8].tolist() == [*reversed(half), *half]
    assert axis.index[8].tolist() == list(range(13, 21))  # centred between samples 16 and 17


def test_border_is_mirrored_with_the_edge_repeated() -> None:
    axis = axis_weights(8, 4, 0.5)
    assert axis.index[0].tolist() == [2, 1, 0, 0, 1, 2, 3, 4]
    assert axis.index[3].tolist() == [3, 4, 5, 6, 7, 7, 6, 5]


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 0.7, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("n", [2, 5, 12, 31])
def test_equals_matlab_written_sample_by_sample(n: int, scale: float) -> None:
    row = noise(1, n, seed=n)
    expected = matlab_row(row[0].tolist(), scale)
    columns = axis_weights(n, math.ceil(n * scale - 1e-9), scale)
    found = (columns.weights * row[0][columns.index]).sum(axis=1)
    assert found == pytest.approx(expected, abs=1e-3)  # float32 sums of values up to 255


def test_resizes_rows_and_columns_alike() -> None:
    plane = noise(11, 14)
    assert np.array_equal(imresize(plane.T, 0.5).shape, imresize(plane, 0.5).T.shape)
    assert pytest.approx(imresize(plane, 0.5), abs=1e-3) == imresize(plane.T, 0.5).T  # the order of the two passes: float32


@pytest.mark.parametrize("scale", [0.5, 2.0, 3.0])
def test_linear_ramp_stays_linear_inside(scale: float) -> None:
    ramp = np.tile(np.arange(40, dtype=np.float32), (6, 1))
    inside = imresize(ramp, scale)[0, round(8 * scale) : -round(8 * scale)]
    assert np.diff(inside) == pytest.approx(1.0 / scale, abs=1e-4)  # float32 of values up to 40


@pytest.mark.parametrize("scale", [0.5, 0.7, 2.0, 3.0])
def test_constant_picture_stays_constant(scale: float) -> None:
    assert imresize(np.full((9, 13), 77.0, np.float32), scale) == pytest.approx(77.0, abs=1e-4)


@pytest.mark.parametrize(("side", "scale", "expected"), [(7, 0.5, 4), (9, 1 / 3, 3), (10, 1 / 3, 4), (10, 0.7, 7), (5, 3.0, 15)])
def test_size_is_matlabs_ceiling(side: int, scale: float, expected: int) -> None:
    assert imresize(noise(side, side), scale).shape == (expected, expected)


def test_result_is_contiguous_float32() -> None:
    out = imresize(np.ones((8, 6)), 0.5)  # type: ignore[arg-type]  # float64 in
    assert out.dtype == np.float32
    assert out.flags.c_contiguous


@pytest.mark.parametrize(("shape", "scale"), [((4,), 2.0), ((0, 4), 2.0), ((4, 4), 0.0), ((4, 4), -1.0), ((1, 4, 4, 3), 2.0)])
def test_refuses_what_is_no_plane(shape: tuple[int, ...], scale: float) -> None:
    with pytest.raises(ValueError, match="non-empty"):
        imresize(np.zeros(shape, np.float32), scale)


def test_pair_is_cropped_to_a_multiple() -> None:
    plane = noise(31, 35)
    enlarged, hr = bicubic_pair(plane, 4)
    assert enlarged.shape == hr.shape == (28, 32)
    assert np.array_equal(hr, plane[:28, :32])
    assert np.array_equal(hr, crop_to_multiple(plane, 4))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_band_equals_the_whole(scale: int) -> None:
    plane = noise(7, 5)
    whole = imresize(plane, float(scale))

    def rows(first: int, last: int) -> Plane:
        return plane[first:last]

    for first in range(7 * scale):
        for last in range(first + 1, 7 * scale + 1):
            assert np.array_equal(enlarge_band(rows, (7, 5), scale, (first, last)), whole[first:last])


def test_band_asks_only_for_the_rows_it_needs() -> None:
    plane, asked = noise(40, 4), []

    def rows(first: int, last: int) -> NDArray[np.float32]:
        asked.append((first, last))
        return plane[first:last]

    enlarge_band(rows, (40, 4), 2, (40, 44))
    assert asked == [(18, 24)]  # rows 20 and 21, and the two on each side that the cubic reaches


def test_scale_one_returns_the_rows() -> None:
    plane = noise(6, 4)
    assert np.array_equal(enlarge_band(lambda a, b: plane[a:b], (6, 4), 1, (2, 5)), plane[2:5])


def test_channels_are_resized_each_for_itself() -> None:
    planes = np.random.default_rng(0).random((3, 14, 18), np.float32)
    for scale in (2.0, 0.5):
        assert np.array_equal(imresize(planes, scale), np.stack([imresize(plane, scale) for plane in planes]))
    given, hr = network_pair(planes, 3, "inside")
    assert given.shape == (3, 4, 6) and np.array_equal(hr, planes[:, :12, :18])
    enlarged, _ = bicubic_pair(planes, 3)
    assert np.array_equal(enlarged[1], bicubic_pair(planes[1], 3)[0])

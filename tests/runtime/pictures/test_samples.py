"""What samples stand for: white of each depth, and back."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.errors import InputError
from sr_deploy.runtime.pictures.samples import Pixels, nominal, samples_of


@pytest.mark.parametrize(
    ("largest", "white"), [(0, 255), (200, 255), (255, 255), (256, 511), (4095, 4095), (4096, 65535), (40000, 65535)]
)
def test_a_16_bit_picture_of_few_bits_has_their_white(largest: int, white: int) -> None:
    pixels = np.array([[[0], [largest]]], np.uint16)
    assert samples_of(pixels).white == white


@pytest.mark.parametrize("ends", [np.array([0, 255], np.uint8), np.array([0, 65535], np.uint16), np.array([0, 1], np.float32)])
def test_levels_are_0_to_255_at_every_depth(ends: Pixels) -> None:
    assert samples_of(ends).levels(ends).tolist() == [0.0, 255.0]


def test_every_integer_sample_comes_back() -> None:
    for dtype in (np.uint8, np.uint16):
        every: Pixels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
        assert np.array_equal(samples_of(every).stored(samples_of(every).levels(every)), every)


def test_integers_are_clipped_and_floats_are_not() -> None:
    beyond = np.array([-10.0, 300.0], np.float32)
    assert nominal(np.dtype(np.uint8)).stored(beyond).tolist() == [0, 255]
    assert nominal(np.dtype(np.uint16)).stored(beyond).tolist() == [0, 65535]
    assert nominal(np.dtype(np.float32)).stored(beyond) == pytest.approx(beyond / 255.0)


@pytest.mark.parametrize("values", [(-3.0, 3.0), (0.0, 2.0), (1000.0, 3000.0)])
def test_floats_outside_their_range_are_brought_into_it_and_back(values: tuple[float, float]) -> None:
    pixels = np.array(values, np.float32)
    found = samples_of(pixels)
    assert found.levels(pixels) == pytest.approx([0.0, 255.0])
    assert found.stored(found.levels(pixels)) == pytest.approx(values)


@pytest.mark.parametrize("value", [7.0, -5.0, 1e17, 3e38, -3e38])
def test_a_flat_float_picture_has_a_range(value: float) -> None:
    pixels = np.full((2, 2, 1), value, np.float32)
    found = samples_of(pixels)
    assert np.array_equal(found.stored(found.levels(pixels)), pixels)


@pytest.mark.parametrize("values", [(-3e38, 3e38), (-1e-45, 0.0)])
def test_floats_of_a_range_that_cannot_be_scaled_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(
        InputError, match=r"a float picture from .* to .*, a range that float32 cannot be scaled by; scale it first"
    ):
        samples_of(np.array(values, np.float32))


@pytest.mark.parametrize("values", [(-1e38, 2e38), (-4e-36, 0.0)])
def test_floats_of_any_other_range_have_finite_levels_and_come_back(values: tuple[float, float]) -> None:
    pixels = np.array(values, np.float32)
    found = samples_of(pixels)
    assert found.levels(pixels) == pytest.approx([0.0, 255.0])
    assert found.stored(found.levels(pixels)) == pytest.approx(values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="no finite numbers; replace them"):
        samples_of(np.array([0.5, value], np.float32))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="a picture of float64 samples; bring them to uint8, uint16 or float32"):
        samples_of(np.zeros((2, 2, 1)))  # type: ignore[arg-type]

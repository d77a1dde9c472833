"""What samples stand for: white of each depth, and back."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.errors import InputError
from sr_deploy.runtime.samples import Pixels, nominal, samples_of


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


def test_a_flat_float_picture_has_a_range() -> None:
    pixels = np.full((2, 2, 1), 7.0, np.float32)
    found = samples_of(pixels)
    assert (found.stored(found.levels(pixels)) == 7.0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="no finite numbers; replace them"):
        samples_of(np.array([0.5, value], np.float32))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="a picture of float64 samples; bring them to uint8, uint16 or float32"):
        samples_of(np.zeros((2, 2, 1)))  # type: ignore[arg-type]

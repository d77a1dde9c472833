"""Colours under transparency reach no visible pixel."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.pictures.samples import Levels, Pixels, nominal
from sr_deploy.runtime.upscaling.transparency import REACH, hidden_in
from sr_deploy.runtime.upscaling.upscaling import upscale
from tests.runtime import tiny_onnx as tiny

WHITE: dict[type[np.generic], float] = {np.uint8: 255, np.uint16: 65535, np.float32: 1.0}


def cut_out(dtype: type[np.generic], colour: float, hidden: float, size: int = 60) -> Pixels:
    """Return a disc of one colour on fully transparent ground of another."""
    y, x = np.mgrid[:size, :size]
    inside = np.hypot(y - size / 2, x - size / 2) < size / 4
    pixels: Pixels = np.empty((size, size, 4), dtype)
    pixels[..., :3] = np.where(inside, colour, hidden)[..., None] * WHITE[dtype]
    pixels[..., 3] = inside * WHITE[dtype]
    return pixels


def filled(pixels: Pixels, *bands: tuple[int, int]) -> Levels:
    hidden = hidden_in(pixels, nominal(pixels.dtype))
    assert hidden is not None
    return np.concatenate([hidden.colours(*band) for band in bands or [(0, len(pixels))]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_no_halo_of_the_hidden_colour_appears(identity: Engine, dtype: type[np.generic], hidden: float) -> None:
    found = upscale(identity, cut_out(dtype, 0.6, hidden), 3)
    seen = found[..., 3] > 0
    assert np.abs(found[seen][:, :3].astype(np.float64) / WHITE[dtype] - 0.6).max() < 0.005  # rounding


def test_what_hides_changes_nothing_that_is_seen(random_engine: Engine) -> None:
    first, second = cut_out(np.uint8, 0.6, 0.0), cut_out(np.uint8, 0.6, 0.9)
    found = [upscale(random_engine, pixels, 2) for pixels in (first, second)]
    assert np.array_equal(found[0], found[1])


def test_visible_pixels_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 4), np.uint8)
    pixels[..., 3] *= np.random.default_rng(1).integers(0, 2, (50, 40), np.uint8)
    seen = pixels[..., 3] > 0
    assert np.array_equal(filled(pixels)[seen], pixels[seen][:, :3])


def test_hidden_pixels_get_the_mean_of_those_around_them() -> None:
    pixels = np.zeros((1, 3, 2), np.uint8)
    pixels[0, :, 0], pixels[0, :, 1] = [10, 200, 30], [255, 0, 1]
    assert filled(pixels)[0, :, 0].tolist() == [10, 20, 30]


def test_far_away_the_mean_of_all_is_taken() -> None:
    pixels = np.zeros((3, 400, 4), np.uint8)
    pixels[:, 0] = [100, 20, 60, 255]
    pixels[:, 399] = [200, 40, 80, 255]
    assert filled(pixels)[1, 200].tolist() == [150, 30, 70]
    assert filled(pixels)[1, 10].tolist() == [100, 20, 60]


def test_filled_band_by_band_is_filled_at_once() -> None:
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (150, 60, 4), np.uint8)
    pixels[..., 3] = 0
    pixels[rng.integers(0, 150, 12), rng.integers(0, 60, 12), 3] = 255
    bands = [(0, 7), (7, 70), (70, 71), (71, 150)]
    # means are sums in double precision, cast to float32: the last bit may differ
    assert filled(pixels, *bands) == pytest.approx(filled(pixels), rel=1e-6)
    assert max(high - low for low, high in bands) > REACH


@pytest.mark.parametrize("alpha", [0, 255])
def test_where_all_or_nothing_is_seen_nothing_is_changed(alpha: int) -> None:
    pixels = np.full((4, 4, 4), 9, np.uint8)
    pixels[..., 3] = alpha
    assert hidden_in(pixels, nominal(pixels.dtype)) is None


@pytest.fixture
def random_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("r") / "m_fp32.onnx"
    return load(tiny.write(path, tiny.random_weights((8, 8, 1)), (1, 1, 48, 64)), threads=1)

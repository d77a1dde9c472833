"""Pictures in, larger pictures out: luma by the network, the rest by bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_deploy.card import check_scale
from sr_deploy.degrade import imresize
from sr_deploy.errors import InputError
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.pictures.read import read_pixels
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.upscaling.upscaling import levels_from_luma, planes_from, upscale
from tests.conftest import Outside
from tests.runtime import tiny_onnx as tiny

WEIGHTS = tiny.random_weights((8, 8, 1))


def random_picture(h: int, w: int, channels: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels), np.uint8)


def smooth_picture(h: int, w: int, channels: int) -> Pixels:
    small = random_picture(h // 8 + 1, w // 8 + 1, channels).astype(np.float32)
    planes = [imresize(small[..., c], 8.0)[:h, :w] for c in range(channels)]
    return np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["china.jpg", "coffee.png"])
def test_identity_at_scale_one_changes_no_value_by_more_than_one(identity: Engine, pictures: Path, name: str) -> None:
    pixels = read_pixels(pictures / name)
    found = upscale(identity, pixels, 1)
    assert found.shape == pixels.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() <= 1


def test_identity_at_scale_one_keeps_every_colour(identity: Engine) -> None:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18 * 18, 18, 3)
    assert np.abs(upscale(identity, cube, 1).astype(int) - cube).max() <= 1


def test_identity_at_scale_one_keeps_a_grey_picture(identity: Engine, pictures: Path) -> None:
    pixels = read_pixels(pictures / "grass.png")
    assert pixels.shape[2] == 1
    assert np.array_equal(upscale(identity, pixels, 1), pixels)


def test_grey_in_three_channels_stays_grey(random_file: Path) -> None:
    grey = smooth_picture(40, 50, 1)
    found = upscale(load(random_file, threads=1), np.repeat(grey, 3, axis=2), 2)
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])


def test_a_grey_picture_is_treated_as_its_rgb_copy(random_file: Path) -> None:
    grey, engine = smooth_picture(40, 50, 1), load(random_file, threads=1)
    colour = upscale(engine, np.repeat(grey, 3, axis=2), 2)
    # both round the same real numbers, computed by different float32 sums
    assert np.abs(upscale(engine, grey, 2)[..., 0].astype(int) - colour[..., 0]).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_banded_result_equals_that_of_one_huge_tile(random_file: Path, tmp_path: Path, channels: int, scale: int) -> None:
    pixels = smooth_picture(70, 90, channels)
    huge = load(tiny.write(tmp_path / "huge.onnx", WEIGHTS, (1, 1, 70 * scale, 90 * scale)), threads=1)
    difference = np.abs(upscale(load(random_file, threads=1), pixels, scale).astype(int) - upscale(huge, pixels, scale))
    # sums in another order differ by 1e-6 of the range, which seldom crosses the rounding to 8 bits
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < 0.001 * difference.size


def test_luma_is_the_networks(tmp_path: Path) -> None:
    grey = smooth_picture(40, 50, 1)
    engine = load(tiny.write(tmp_path / "m.onnx", WEIGHTS, (1, 1, 86, 106)), threads=1)
    enlarged = np.pad(imresize(planes_from(grey, True)[0], 2.0), 3, mode="symmetric")
    levels = levels_from_luma(engine.run(enlarged[None, None] / np.float32(255.0))[0, 0, 3:-3, 3:-3] * np.float32(255.0))
    assert np.array_equal(upscale(engine, grey, 2)[..., 0], np.clip(np.rint(levels), 0, 255))


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("scale", [2, 3])
def test_alpha_is_enlarged_by_bicubic(random_file: Path, channels: int, scale: int) -> None:
    pixels = random_picture(45, 37, channels)
    found = upscale(load(random_file, threads=1), pixels, scale)
    alpha = imresize(pixels[..., -1].astype(np.float32), float(scale))
    assert np.array_equal(found[..., -1], np.clip(np.rint(alpha), 0, 255))


@pytest.mark.parametrize("value", [0, 255])
def test_constant_alpha_stays_constant(identity: Engine, value: int) -> None:
    pixels = random_picture(20, 30, 4)
    pixels[..., 3] = value
    assert (upscale(identity, pixels, 4)[..., 3] == value).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (5, 129)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_size_gives_that_size_times_the_scale(identity: Engine, size: tuple[int, int], channels: int) -> None:
    assert upscale(identity, random_picture(*size, channels), 2).shape == (2 * size[0], 2 * size[1], channels)


def test_a_single_pixel_keeps_its_colour(identity: Engine) -> None:
    pixel = np.array([[[200, 30, 90]]], np.uint8)
    assert np.abs(upscale(identity, pixel, 3).astype(int) - pixel).max() <= 1


def test_overshoot_is_clipped_not_wrapped(tmp_path: Path) -> None:
    bright = load(tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 16, 16), offset=3.0), threads=1)
    assert (upscale(bright, random_picture(16, 16, 1), 1) == 255).all()


def test_the_picture_is_not_changed(identity: Engine) -> None:
    pixels = random_picture(20, 30, 4)
    before = pixels.copy()
    upscale(identity, pixels, 2)
    assert np.array_equal(pixels, before)


def test_default_scale_is_the_cards() -> None:
    card = tiny.card_of(WEIGHTS, (1, 1, 32, 32)).with_changes(default_scale=3)
    assert check_scale(card, None, source="m") == 3


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_scales_of_the_card_and_one_are_served(scale: int) -> None:
    assert check_scale(tiny.card_of(WEIGHTS, (1, 1, 32, 32)), scale, source="m") == scale


@pytest.mark.parametrize(("upscaling", "scale"), [("before", 5), ("before", 8), ("inside", 1)])
def test_a_scale_that_is_not_served_is_refused(upscaling: str, scale: int) -> None:
    card = tiny.card_of(WEIGHTS, (1, 1, 32, 32)).with_changes(upscale=upscaling)
    with pytest.raises(InputError, match=rf"m\.onnx: serves scales .*2, 3, 4, not {scale}; choose one with --scale"):
        check_scale(card, scale, source="m.onnx")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_samples_come_back_from_identity(identity: Engine, channels: int, dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 50, channels), np.uint16)
    pixels[..., -1] |= 1 if channels in (2, 4) else 0  # nothing fully transparent
    given = pixels if dtype is np.uint16 else (pixels / 65535).astype(np.float32)
    found = upscale(identity, given, 1)
    assert found.dtype == dtype and found.shape == pixels.shape
    # float32 in grey levels: 2e-5 of 255, a hundredth of a 16-bit step
    assert np.abs(found.astype(np.float64) - given).max() <= (0 if dtype is np.uint16 else 1e-6)


def test_16_bits_are_the_8_bit_result_in_finer_steps(random_file: Path) -> None:
    pixels, engine = smooth_picture(60, 70, 3), load(random_file, threads=1)
    pixels[0, 0] = 255  # a 16-bit picture
    deep = upscale(engine, pixels.astype(np.uint16) * np.uint16(257), 2)
    assert np.abs(deep / 257 - upscale(engine, pixels, 2)).max() <= 0.51


def test_float_is_neither_rounded_nor_clipped(tmp_path: Path) -> None:
    bright = load(tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 16, 16), offset=3.0), threads=1)
    found = upscale(bright, np.full((16, 16, 1), 0.5, np.float32), 1)
    assert found == pytest.approx(0.5 + 3.0 * 255 / 219, abs=1e-5)  # studio range to full range


def test_float_of_any_range_is_enlarged_in_it(random_file: Path) -> None:
    unit = smooth_picture(50, 60, 3).astype(np.float32) / np.float32(255)
    unit.flat[0], unit.flat[1] = 0.0, 1.0
    engine = load(random_file, threads=1)
    assert upscale(engine, unit * np.float32(40) - np.float32(3), 2) == pytest.approx(upscale(engine, unit, 2) * 40 - 3, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scale", [1, 2])
def test_grey_stays_grey_to_the_last_bit(random_file: Path, pictures: Path, dtype: type[np.generic], scale: int) -> None:
    grey = np.asarray(read_pixels(pictures / "grass.png")[:130, :130]).astype(np.float64) / 255
    white = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(np.dtype(dtype), 1)
    colour: Pixels = np.repeat((grey * white).astype(dtype), 3, axis=2)
    found = upscale(load(random_file, threads=1), colour, scale)
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("name", ["kodim03.png", "kodim20.png", "kodim23.png"])
def test_a_real_photograph_comes_back_from_identity(identity: Engine, outside: Outside, name: str) -> None:
    pixels = read_pixels(outside("kodak24") / name)
    assert np.abs(upscale(identity, pixels, 1).astype(int) - pixels).max() <= 1


def test_a_real_grey_photograph_comes_back_exactly(identity: Engine, pictures: Path) -> None:
    pixels = read_pixels(pictures / "grass.png")
    colour = np.repeat(pixels, 3, axis=2)
    assert np.array_equal(upscale(identity, pixels, 1), pixels)
    assert np.array_equal(upscale(identity, colour, 1), colour)

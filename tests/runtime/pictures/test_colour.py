"""Pictures look the same afterwards: profiles kept where samples are, CMYK and Lab converted."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sr_deploy.runtime.pictures.colour import fitting_profile, rgb_from_lab16
from sr_deploy.runtime.pictures.read import read_picture
from tests.runtime.pictures.icc_cmyk import cmyk_profile, rgb_of
from tests.runtime.pictures.odd_tiff import Shape, odd_tiff

INKS = ((255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0), (90, 40, 200, 30))


@pytest.mark.parametrize("inks", INKS)
def test_cmyk_is_converted_by_its_own_profile(tmp_path: Path, inks: tuple[int, ...]) -> None:
    Image.new("CMYK", (4, 4), inks).save(tmp_path / "p.tif", icc_profile=cmyk_profile())
    picture = read_picture(tmp_path / "p.tif")
    assert picture.icc_profile is None  # it is sRGB now
    # black point compensation moves dark colours a little
    assert np.abs(picture.pixels[0, 0].astype(int) - rgb_of(inks)).max() <= 12


def test_the_profile_of_cmyk_makes_a_difference(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "p.tif", icc_profile=cmyk_profile())
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "q.tif")
    found, plain = (read_picture(tmp_path / name).pixels[0, 0] for name in ("p.tif", "q.tif"))
    assert plain.tolist() == [0, 255, 255]
    assert np.abs(found.astype(int) - plain).max() > 100


def test_a_damaged_profile_of_cmyk_is_none(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "p.tif", icc_profile=cmyk_profile()[:200])
    assert read_picture(tmp_path / "p.tif").pixels[0, 0].tolist() == [0, 255, 255]


def test_16_bit_cmyk_comes_in_8_bits(tmp_path: Path) -> None:
    inks = np.full((3, 4, 4), [65535, 0, 0, 32768], np.uint16)
    (tmp_path / "p.tif").write_bytes(odd_tiff(inks, Shape(5)))
    pixels = read_picture(tmp_path / "p.tif").pixels
    assert pixels.dtype == np.uint8 and np.abs(pixels[0, 0].astype(int) - [0, 127, 127]).max() <= 1


@pytest.mark.parametrize(
    ("lab", "rgb"), [((100, 0, 0), (255, 255, 255)), ((53.6, 0, 0), (128, 128, 128)), ((54.3, 80.8, 69.9), (255, 0, 0))]
)
def test_lab_becomes_srgb(tmp_path: Path, lab: tuple[float, ...], rgb: tuple[int, ...]) -> None:
    # CIELAB of sRGB white, grey and red adapted to D50 (Bradford)
    octets = np.array([[[round(lab[0] * 2.55), round(lab[1]) & 255, round(lab[2]) & 255]]], np.uint8)
    (tmp_path / "p.tif").write_bytes(odd_tiff(octets, Shape(8)))
    assert (
        np.abs(read_picture(tmp_path / "p.tif").pixels[0, 0].astype(int) - rgb).max() <= 6
    )  # Lab in 8 bits: a step of a moves red by three
    words = np.array([[[round(lab[0] * 655.35), round(lab[1] * 256) & 65535, round(lab[2] * 256) & 65535]]], np.uint16)
    (tmp_path / "q.tif").write_bytes(odd_tiff(words, Shape(8)))
    found = read_picture(tmp_path / "q.tif").pixels
    assert np.array_equal(found, rgb_from_lab16(words))
    assert np.abs(found[0, 0].astype(int) - rgb).max() <= 6


def test_rgb_keeps_its_samples_and_its_profile(tmp_path: Path) -> None:
    profile = wide_profile()
    samples = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    for mode in ("RGB", "RGBA"):
        Image.fromarray(samples).convert(mode).save(tmp_path / "p.png", icc_profile=profile)
        picture = read_picture(tmp_path / "p.png")
        assert np.array_equal(picture.pixels[..., :3], samples) and picture.icc_profile == profile


def test_a_profile_of_another_space_is_left_out() -> None:
    rgb, grey, cmyk = wide_profile(), bytes(16) + b"GRAY" + bytes(108), cmyk_profile()
    assert (
        fitting_profile(rgb, 3) == fitting_profile(rgb, 4) == rgb and fitting_profile(grey, 1) == fitting_profile(grey, 2) == grey
    )
    assert not any((fitting_profile(rgb, 1), fitting_profile(grey, 3), fitting_profile(cmyk, 3), fitting_profile(None, 3)))


def wide_profile() -> bytes:
    """Return a profile for RGB: what it says is of no matter here."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_the_profile_for_tests_is_one_that_littlecms_reads() -> None:
    profile = ImageCms.ImageCmsProfile(BytesIO(cmyk_profile())).profile
    assert profile.xcolor_space.strip() == "CMYK" and profile.connection_space.strip() == "Lab"

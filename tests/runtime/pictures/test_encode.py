"""Results in every format: what it holds comes back, what it does not hold is reduced by the rule."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.files import PICTURE_SUFFIXES
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.infer.command import FORMATS as FORMAT_NAMES
from sr_deploy.runtime.pictures.colour import pixels_of
from sr_deploy.runtime.pictures.encode import encode, fewer_bits
from sr_deploy.runtime.pictures.formats import (
    FORMATS,
    Writing,
    check_holds,
    choose_format,
    format_of_name,
    lacks,
    result_name,
)
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.samples import Pixels
from tests.runtime.large.large_pictures import profile as real_profile


def smooth(dtype: type[np.generic], channels: int) -> Pixels:
    y, x = np.mgrid[0:40, 0:60] / 60
    planes = [x, y, (x + y) / 2, 0.2 + 0.8 * x]
    chosen = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    values = np.stack([planes[i] for i in chosen], -1)
    white = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(np.dtype(dtype), 1)
    found: Pixels = (values * white).astype(dtype)
    return found


def through(tmp_path: Path, kind: str, pixels: Pixels, picture: Picture | None = None, quality: int | None = None) -> Picture:
    path = tmp_path / f"p{FORMATS[kind].suffixes[0]}"
    path.write_bytes(b"".join(encode(kind, [pixels.copy()], picture or Picture(pixels), quality)))
    return read_picture(path)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_png_and_tiff_hold_every_sample(tmp_path: Path, kind: str, dtype: type, channels: int) -> None:
    pixels = smooth(dtype, channels)
    found = through(tmp_path, kind, pixels)
    if dtype is np.float32 and kind == "png":
        assert np.abs(found.pixels / 65535 - pixels).max() <= 0.51 / 65535  # float32 has 24 bits
    else:
        assert found.pixels.dtype == dtype and np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "most"), [("jpeg", 4), ("webp", 6), ("bmp", 0), ("gif", 25)])
def test_the_other_formats_hold_8_bits(tmp_path: Path, kind: str, most: int, channels: int) -> None:
    pixels = smooth(np.uint8, channels)
    found = through(tmp_path, kind, pixels, Picture(pixels, lossless=False))
    assert found.format == kind and found.pixels.dtype == np.uint8
    colours = np.broadcast_to(pixels, found.pixels.shape) if kind == "webp" else pixels  # WebP knows no grey
    assert np.abs(found.pixels.astype(int) - colours).mean() <= most / 2
    assert np.abs(found.pixels.astype(int) - colours).max() <= 4 * most


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_webp_and_gif_hold_transparency(tmp_path: Path, kind: str) -> None:
    pixels = smooth(np.uint8, 4)
    found = through(tmp_path, kind, pixels).pixels
    expected = pixels[..., 3] if kind == "webp" else np.where(pixels[..., 3] < 128, 0, 255)
    assert np.array_equal(found[..., 3], expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_animation_in_avif_keeps_its_frames_and_durations(channels: int) -> None:
    frames = [smooth(np.uint8, channels)[:, ::step].copy() for step in (1, -1)]
    picture = Picture(frames[0], rest=Frames((frames[1],), (100, 250)), lossless=False)
    with Image.open(BytesIO(b"".join(encode("avif", frames, picture)))) as found:
        durations = []
        for number, frame in enumerate(frames):
            found.seek(number)
            pixels = pixels_of(found).astype(int)
            durations.append(found.info["duration"])
            assert np.abs(pixels[..., 0] - frame[..., 0]).mean() < 3 and pixels.shape[2] == {2: 4}.get(channels, channels)
    assert durations == [100, 250]


def test_fewer_bits_are_rounded_from_white_to_white() -> None:
    deep = np.array([[[0], [128], [129], [32768], [65535]]], np.uint16)
    assert fewer_bits(deep, 8)[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    unit = np.array([[[-0.5], [0.0], [0.5], [1.0], [1.5]]], np.float32)
    assert fewer_bits(unit, 8)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert fewer_bits(unit, 16)[0, :, 0].tolist() == [0, 0, 32768, 65535, 65535]
    assert fewer_bits(deep, 16) is deep


def test_quality_is_the_jpegs_and_full_colour_from_90_on(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    sizes, layers = {}, {}
    for quality in (None, 95, 80):
        content = b"".join(encode("jpeg", [pixels.copy()], Picture(pixels), quality))
        sizes[quality] = len(content)
        with Image.open(BytesIO(content)) as image:
            layers[quality] = image.layer[0][1:3]  # type: ignore[attr-defined]
    assert sizes[None] == sizes[95] > sizes[80]
    assert layers[95] == (1, 1) and layers[80] == (2, 2)


def test_webp_of_what_was_stored_without_loss_loses_nothing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(through(tmp_path, "webp", pixels).pixels, pixels)
    assert through(tmp_path, "webp", pixels).lossless
    assert not through(tmp_path, "webp", pixels, quality=95).lossless


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
def test_the_profile_goes_along(tmp_path: Path, kind: str) -> None:
    pixels = smooth(np.uint8, 3)
    long = bytes(16) + b"RGB " + bytes(range(256)) * 600  # more than two segments of a JPEG
    profile = real_profile() if kind == "tiff" else long  # libvips writes those alone that are ones
    found = through(tmp_path, kind, pixels, Picture(pixels, profile))
    assert found.icc_profile == profile


@pytest.mark.parametrize(
    ("kind", "side", "able"), [("jpeg", 32_751, "png"), ("webp", 8_192, "png"), ("gif", 32_768, "png"), ("png", 50_000_001, None)]
)
def test_a_result_too_large_for_its_format_is_refused_and_another_named(kind: str, side: int, able: str | None) -> None:
    fits, too_large = (np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (1, n, 1), (0, 0, 0)) for n in (side - 1, side))
    check_holds(kind, Picture(fits), 2, Path("p"))
    advice = f"use --format {able}, or a name that ends in .png" if able else "cut it into parts"
    with pytest.raises(InputError, match=rf"^p: {2 * side}x2 pixels, which {kind} cannot hold; {advice}$"):
        check_holds(kind, Picture(too_large), 2, Path("p"))


def test_a_bmp_beyond_4_gb_is_refused() -> None:
    pixels = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20_000, 20_000, 3), (0, 0, 0))
    with pytest.raises(InputError, match=r"p: 40000x40000 pixels, which bmp cannot hold; use --format png"):
        check_holds("bmp", Picture(pixels), 2, Path("p"))


@pytest.mark.parametrize("kind", ["jpeg", "bmp"])
def test_transparency_is_refused_where_it_would_be_lost(kind: str) -> None:
    with pytest.raises(InputError, match=rf"p: transparency, which {kind} cannot hold; use --format png"):
        check_holds(kind, Picture(smooth(np.uint8, 4)), 2, Path("p"))


def test_floats_beyond_their_range_are_for_tiff_alone() -> None:
    picture = Picture(smooth(np.float32, 3) * 3 - 1)
    with pytest.raises(InputError, match=r"p: float samples from -1 to 1\.9\d*, which png cannot hold; use --format tiff"):
        check_holds("png", picture, 2, Path("p"))
    assert not lacks("tiff", picture, 2)


def test_formats_and_options_name_the_same() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "jpeg"),
        ("a.jpeg", "jpeg"),
        ("a.tif", "tiff"),
        ("a.avif", "avif"),
        ("a.jif", "jpeg"),
        ("a.heic", None),
        ("a", None),
        (".png", None),
    ],
)
def test_a_suffix_stands_for_a_format(name: str, kind: str | None) -> None:
    assert format_of_name(Path(name)) == kind


@pytest.mark.parametrize(
    ("saved", "name", "frames", "kind"),
    [
        ("JPEG", "a.jpg", False, "jpeg"),
        ("PNG", "a.jpg", False, "png"),  # what a file is, not what it is called
        ("WEBP", "a", False, "webp"),
        ("TIFF", "a.tif", False, "tiff"),
        ("BMP", "a.bmp", False, "bmp"),
        ("GIF", "a.gif", False, "png"),
        ("GIF", "a.gif", True, "gif"),
    ],
)
def test_a_result_follows_its_input(tmp_path: Path, saved: str, name: str, frames: bool, kind: str) -> None:
    Image.new("L", (3, 4)).save(tmp_path / name, format=saved)
    assert choose_format(tmp_path / name, Writing(), Reading(frames=frames)) == kind
    assert choose_format(tmp_path / name, Writing("webp"), DEFAULT) == "webp"


def test_a_bmp_with_transparency_becomes_a_png(tmp_path: Path) -> None:
    content = BytesIO()
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(content, format="BMP")
    head = bytearray(content.getvalue())
    # header version 4 with bit fields that name an alpha channel
    fields = b"".join(n.to_bytes(4, "little") for n in (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    v4 = head[:14] + (108).to_bytes(4, "little") + head[18:30] + (3).to_bytes(4, "little") + head[34:54] + fields + bytes(52)
    v4[10:14] = (122).to_bytes(4, "little")
    (tmp_path / "a.bmp").write_bytes(bytes(v4) + bytes(head[54:]))
    assert choose_format(tmp_path / "a.bmp", Writing(), DEFAULT) == "png"
    assert read_picture(tmp_path / "a.bmp").pixels.shape == (4, 4, 4)


@pytest.mark.parametrize("name", ["none.jpg", "folder.jpg", "empty.jpg"])
def test_what_is_no_picture_is_called_by_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert choose_format(tmp_path / name, Writing(), DEFAULT) == "jpeg"


@pytest.mark.parametrize(
    ("name", "kind", "expected"), [("a.JPG", "jpeg", "a_x2.JPG"), ("a.gif", "png", "a_x2.png"), ("a.b.tif", "tiff", "a.b_x2.tif")]
)
def test_a_result_keeps_its_inputs_suffix_where_it_is_true(name: str, kind: str, expected: str) -> None:
    assert result_name(Path(name), 2, kind) == expected


@pytest.mark.parametrize(("format_", "quality", "reason"), [(None, 0, "outside 1 to 100"), ("png", 90, "stored without loss")])
def test_a_quality_without_sense_is_refused(format_: str | None, quality: int, reason: str) -> None:
    with pytest.raises(InputError, match=rf"--quality {quality}: .*{reason}"):
        Writing(format_, quality)


def test_each_suffix_that_is_taken_from_folders_stands_for_a_format() -> None:
    assert {suffix for kind in FORMATS.values() for suffix in kind.suffixes} == PICTURE_SUFFIXES

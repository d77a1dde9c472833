"""Modes of picture files to arrays and back."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from sr_deploy.planes import read_rgb
from sr_deploy.runtime.pictures.png_file import SIGNATURE, chunk
from sr_deploy.runtime.pictures.read import head_of, read_pixels
from tests.runtime.pictures.odd_tiff import Shape, odd_tiff


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def noise(h: int, w: int, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    values = np.random.default_rng(0).integers(0, 256, (h, w, channels), np.uint8)
    return values[..., 0] if channels == 1 else values


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_modes_come_as_they_are(tmp_path: Path, mode: str, channels: int) -> None:
    values = noise(5, 7, channels)
    found = read_pixels(saved(tmp_path / "p.png", Image.fromarray(values, mode)))
    assert found.dtype == np.uint8
    assert np.array_equal(found, values.reshape(5, 7, channels))


def test_a_bilevel_picture_is_grey(tmp_path: Path) -> None:
    found = read_pixels(saved(tmp_path / "p.png", Image.fromarray(noise(9, 8, 1)).convert("1")))
    assert found.shape == (9, 8, 1)
    assert set(np.unique(found)) == {0, 255}


def test_a_palette_with_transparency_keeps_it(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putpixel((0, 0), 2)
    found = read_pixels(saved(tmp_path / "p.png", image, transparency=2))
    assert found.shape == (2, 4, 4)
    assert found[0, 0].tolist() == [0, 0, 255, 0]
    assert found[1, 3].tolist() == [0, 255, 0, 255]


def test_a_palette_without_transparency_is_rgb(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert read_pixels(saved(tmp_path / "p.png", image))[0, 0].tolist() == [0, 255, 0]


def test_a_transparent_grey_level_becomes_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[10, 20], [20, 30]], np.uint8))
    found = read_pixels(saved(tmp_path / "p.png", image, transparency=20))
    assert found.tolist() == [[[10, 255], [20, 0]], [[20, 0], [30, 255]]]


@pytest.mark.parametrize(("depth", "octet"), [(1, 0b01000000), (2, 0b00011011), (4, 0x15)])
def test_a_transparent_grey_level_of_few_bits_becomes_alpha(tmp_path: Path, depth: int, octet: int) -> None:
    head = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    data = [(b"IHDR", head), (b"tRNS", struct.pack(">H", 1)), (b"IDAT", zlib.compress(bytes([0, octet]))), (b"IEND", b"")]
    (tmp_path / "p.png").write_bytes(SIGNATURE + b"".join(chunk(name, held) for name, held in data))
    found = read_pixels(tmp_path / "p.png")[0]
    levels = [octet >> (8 - depth), octet >> (8 - 2 * depth) & (2**depth - 1)]
    assert found.tolist() == [[level * 255 // (2**depth - 1), 0 if level == 1 else 255] for level in levels]
    assert 1 in levels


def test_a_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    found = read_pixels(saved(tmp_path / "p.png", image, transparency=(4, 5, 6)))
    assert found.tolist() == [[[1, 2, 3, 255], [4, 5, 6, 0]]]


@pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow 12, the last for Python 3.10, refuses such a TIFF"
)
def test_grey_with_alpha_that_was_multiplied_in_is_divided_out(tmp_path: Path) -> None:
    stored = np.array([[[60, 120], [0, 0], [200, 255]]], np.uint8)
    path = tmp_path / "p.tif"
    path.write_bytes(odd_tiff(stored, Shape(1, extra=1)))
    assert read_pixels(path).tolist() == [[[127, 120], [0, 0], [200, 255]]]
    assert head_of(path).shape == (1, 3, 2)
    assert read_rgb(path)[0, 2].tolist() == [200, 200, 200]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    found = read_pixels(saved(tmp_path / "p.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100))
    assert found.shape == (8, 8, 3)
    assert np.abs(found[4, 4].astype(int) - [255, 0, 0]).max() <= 3  # JPEG


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(noise(8, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_pixels(saved(tmp_path / "p.png", image, exif=exif)).shape == (16, 8, 3)

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.luma import luma_from_rgb
from sr_deploy.options import MAX_PIXELS
from sr_deploy.pictures import BoundedFile, Reading, open_picture, opened, picture_size
from sr_deploy.planes import is_grey, read_luma, read_rgb, rgb_pixels
from sr_deploy.runtime.pictures.read import read_picture
from tests.conftest import Outside

BAD = (
    "bmp_bad_bitcount.bmp",
    "bmp_short_file.bmp",
    "broken_data_stream.png",
    "broken_signature.png",
    "tiff_missing_dimensions.tif",
    "tiff_out_of_memory.tif",
    "tiff_seek_too_large.tif",
    "truncated_a.jpg",
    "truncated_a.png",
    "truncated_end_chunk.png",
    "unknown_compression_method.png",
)
DEEP = (
    "gray16_64x64.tif",
    "gray12in16_100x100.tif",
    "gray16_trns.png",
    "gray_float32_128x128.tiff",
    "rgb16_32x32.png",
    "rgb16_100x40.tiff",
    "rgba16_32x32.png",
)
ODD = {  # name -> size and whether it is grey
    "tiny_1x1_palette.png": (1, 1, False),
    "tiny_3x3.png": (3, 3, False),
    "bilevel_500x500.png": (500, 500, True),
    "gray8_odd_400x267.jpg": (400, 267, True),
    "gray_alpha8_400x300.png": (400, 300, True),
    "cmyk_100x100.jpg": (100, 100, False),
    "rgba8_162x150.png": (162, 150, False),
    "rgb8_interlaced_32x32.png": (32, 32, False),
    "rgb8_jpeg_in_tiff.tif": (128, 128, False),
    "progressive_320x240.jpg": (320, 240, False),
    "rgb8.webp": (128, 128, False),
    "jpeg_ff00_header.jpg": (300, 225, False),
}


def gradient() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:20, 0:30]
    return np.stack([x * 8, y * 12, 255 - x * 8], -1).astype(np.uint8)


def test_every_broken_file_of_the_collection_is_named(outside: Outside) -> None:
    assert sorted(path.name for path in (outside("odd/bad")).iterdir()) == sorted(BAD)


@pytest.mark.parametrize("name", BAD)
def test_a_broken_file_is_refused_in_one_line(outside: Outside, name: str) -> None:
    path = outside("odd/bad") / name
    with pytest.raises(InputError) as refused:
        open_picture(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: cannot be decoded (")
    assert message.count(str(path)) == 1
    assert "\n" not in message


@pytest.mark.parametrize("name", ["bmp_2147483647x6.bmp", "bmp_3000000x2000000.bmp"])
def test_a_picture_over_the_limit_is_refused(outside: Outside, name: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"{name}: declares \d+x\d+ pixels, the limit is 500000000; cut it into parts, or see sr-infer --max-pixels",
    ):
        open_picture(outside("odd/huge") / name)


@pytest.mark.parametrize("name", DEEP)
def test_deep_samples_are_refused(outside: Outside, name: str) -> None:
    with pytest.raises(
        InputError, match=rf"{name}: has samples deeper than 8 bits .*, 8-bit pictures are measured and trained on; convert it"
    ):
        open_picture(outside("odd/valid") / name)


@pytest.mark.parametrize(("name", "expected"), ODD.items())
def test_an_odd_file_is_read(outside: Outside, name: str, expected: tuple[int, int, bool]) -> None:
    image = open_picture(outside("odd/valid") / name)
    assert (*image.size, is_grey(image)) == expected
    assert rgb_pixels(image).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("orientation", [2, 3, 4, 6, 8])
def test_turned_photographs_come_out_upright(outside: Outside, orientation: int) -> None:
    turned = rgb_pixels(open_picture(outside("odd/valid") / f"exif_orientation_{orientation}.jpg"))
    upright = rgb_pixels(open_picture(outside("odd/valid") / "exif_orientation_2.jpg"))
    # the same photograph, JPEG-compressed in another orientation each time
    assert np.abs(turned.astype(float) - upright).mean() < 4.0


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image, exif = Image.fromarray(gradient()), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(rgb_pixels(open_picture(tmp_path / "a.png")), np.rot90(gradient(), -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes_are_grey_and_taken_as_they_are(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(gradient()).convert("L").convert(mode)
    image.save(tmp_path / "a.png")
    assert is_grey(open_picture(tmp_path / "a.png"))
    assert np.array_equal(read_luma(tmp_path / "a.png"), np.asarray(image.convert("L"), np.float32))


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_colour_modes_give_rounded_studio_luma(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(gradient()).convert(mode)
    image.save(tmp_path / "a.png")
    assert not is_grey(open_picture(tmp_path / "a.png"))
    luma = read_luma(tmp_path / "a.png")
    assert luma.dtype == np.float32
    assert np.array_equal(luma, np.rint(luma_from_rgb(np.asarray(image.convert("RGB")))))


def test_a_grey_picture_gives_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(gradient()[..., 0]).save(tmp_path / "a.png")
    pixels = rgb_pixels(open_picture(tmp_path / "a.png"))
    assert np.array_equal(pixels, np.repeat(gradient()[..., :1], 3, axis=-1))


def test_16_bit_grey_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "a.png")
    with pytest.raises(
        InputError,
        match=r"a\.png: has samples deeper than 8 bits \(I;16\), 8-bit pictures are measured and trained on; convert it",
    ):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cannot be decoded \(.*truncated.*\); .* --allow-truncated takes what is there$"):
        open_picture(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file; it was probably never written out"),
        (b"hello", r"cannot be decoded \(no PNG, JPEG, .* file"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.png: {reason}"):
        open_picture(tmp_path / "a.png")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png: no such file; check the name$"):
        open_picture(tmp_path / "a.png")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a folder, not a picture; name the pictures in it$"):
        open_picture(tmp_path)


def test_the_limit_is_ours_and_pillows_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_picture(tmp_path / "a.png").size == (30, 20)
    assert Image.MAX_IMAGE_PIXELS == 10
    limit = pytest.raises(InputError, match=r"declares 30x20 pixels, the limit is 599; cut it into parts")
    with limit, opened(tmp_path / "a.png", Reading(max_pixels=599)):
        pass
    with opened(tmp_path / "a.png", Reading(max_pixels=600)) as image:
        assert image.size == (30, 20)
    assert Reading().max_pixels == MAX_PIXELS == 500_000_000


def test_rgb_is_full_range_and_a_grey_picture_its_copy(tmp_path: Path) -> None:
    colour, grey = gradient(), gradient()[..., 0]
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_rgb(tmp_path / "colour.png"), colour)
    assert np.array_equal(read_rgb(tmp_path / "grey.png"), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_the_size_in_the_header_is_that_of_the_decoded_picture(tmp_path: Path, name: str, orientation: int) -> None:
    image = Image.fromarray(gradient())
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / name, exif=exif)
    assert image.width != image.height
    assert picture_size(tmp_path / name) == read_rgb(tmp_path / name).shape[:2]


def test_a_bmp_of_16_bits_a_pixel_is_no_deep_picture(tmp_path: Path) -> None:
    pixels = struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF)  # five bits of red, six of green, five of blue
    head = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 16, 3, len(pixels), 0, 0, 0, 0) + struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    start = 14 + len(head)
    (tmp_path / "a.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + head + pixels)
    expected = [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]
    assert read_rgb(tmp_path / "a.bmp").tolist() == expected == read_picture(tmp_path / "a.bmp").pixels.tolist()


def test_the_size_of_a_png_is_known_without_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.tile(gradient(), (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert picture_size(path) == (400, 600)
    with pytest.raises(InputError, match="cannot be decoded"):
        open_picture(path)


def test_a_file_without_a_header_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be decoded"):
        picture_size(tmp_path / "a.png")


def test_a_length_that_a_file_declares_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    tracemalloc.start()
    try:
        with BoundedFile(tmp_path / "a") as stream:
            assert stream.read(2**34) == b"0123456789"
            assert stream.read(2**34) == b""
            stream.seek(8)
            assert (stream.read(1), stream.read(), stream.read(None)) == (b"8", b"9", b"")
            stream.seek(2**40)
            assert stream.read(5) == b""
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_picture_whose_chunk_declares_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    Image.new("1", (13, 11)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:at] + b"\x7f\xff\xff\xff" + content[at + 4 :])
    tracemalloc.start()
    try:
        open_picture(tmp_path / "a.png")  # all its pixels are there
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_broken_tiff_writes_nothing_of_its_own(tmp_path: Path) -> None:
    Image.effect_noise((40, 30), 60).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[8:40] = bytes(32)
    (tmp_path / "a.tif").write_bytes(content)
    script = "import sys; from pathlib import Path; from sr_deploy.pictures import open_picture; open_picture(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.tif")], capture_output=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("Traceback") and "InputError" in lines[-1]
    assert not [line for line in lines if "TIFF" in line.split(":")[0]]

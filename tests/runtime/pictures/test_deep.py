"""Samples of 16 bits and floats are read as they are stored, and what is no such sample is refused."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.pictures.png_file import chunk, with_chunks
from sr_deploy.runtime.pictures.read import head_of, read_picture, read_pixels
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import layout_of, pages_of
from sr_deploy.runtime.pictures.tiff_view import samples_from_octets
from tests.conftest import Outside
from tests.runtime.large.large_pictures import encoded
from tests.runtime.pictures.odd_tiff import Shape, odd_tiff


def noise(dtype: str, channels: int, h: int = 33, w: int = 50) -> NDArray[np.generic]:
    rng = np.random.default_rng(channels)
    if dtype[0] == "f":
        return np.asarray(rng.random((h, w, channels)), dtype)
    return rng.integers(0, np.iinfo(dtype).max, (h, w, channels), dtype)


def read(tmp_path: Path, content: bytes | memoryview, reading: Reading | None = None) -> Pixels:
    (tmp_path / "p").write_bytes(content)
    return read_picture(tmp_path / "p", reading or Reading()).pixels


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_16_bit_png_keeps_every_sample(tmp_path: Path, channels: int) -> None:
    pixels = noise("u2", channels)
    found = read(tmp_path, encoded("png", pixels))  # type: ignore[arg-type]
    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_becomes_alpha(tmp_path: Path, channels: int) -> None:
    pixels = noise("u2", channels)
    key = struct.pack(f">{channels}H", *pixels[3, 4].tolist())
    found = read(tmp_path, with_chunks(memoryview(encoded("png", pixels)), [(b"tRNS", key)]))  # type: ignore[arg-type]
    assert np.array_equal(found[..., :-1], pixels)
    assert np.argwhere(found[..., -1] == 0).tolist() == [[3, 4]]
    assert set(np.unique(found[..., -1])) == {0, 65535}


def test_an_interlaced_16_bit_png_is_read(tmp_path: Path) -> None:
    # Adam7 of a picture of one pixel is that pixel: its first pass
    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 1)
    data = zlib.compress(b"\0" + struct.pack(">3H", 1, 300, 65535))
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    assert read(tmp_path, b"".join(parts)).tolist() == [[[1, 300, 65535]]]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_truncated_16_bit_png_is_refused_or_taken_as_far_as_it_goes(tmp_path: Path, channels: int) -> None:
    pixels = noise("u2", channels, 200, 100)
    content = encoded("png", pixels)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"p: cannot be decoded \(.*\); the file "):
        read(tmp_path, content[: len(content) // 2])
    found = read(tmp_path, content[: len(content) // 2], Reading(allow_truncated=True))
    assert found.shape == pixels.shape
    assert np.array_equal(found[:80], pixels[:80]) and not found[-20:].any()


def png_of(width: int, height: int, lines: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"".join(parts)


def test_a_16_bit_png_of_a_filter_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p: cannot be decoded \(.*\); the file "):
        read(tmp_path, png_of(10, 10, b"\x09" + bytes(1_000_000)))


def test_a_16_bit_png_of_a_long_side_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, png_of(1_000_001, 1, bytes(1 + 6 * 1_000_001))).shape == (1, 1_000_001, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f2", "f8"])
@pytest.mark.parametrize(
    "shape", [Shape(), Shape(rows=7), Shape(order=">"), Shape(tile=(16, 32)), Shape(planes=True), Shape(planes=True, rows=7)]
)
def test_a_deep_tiff_keeps_every_sample_in_every_layout(tmp_path: Path, dtype: str, channels: int, shape: Shape) -> None:
    pixels = noise(dtype, channels)
    whole = Shape(**{**shape.__dict__, "photometric": 1 if channels < 3 else 2, "extra": 2 if channels in (2, 4) else None})
    found = read(tmp_path, odd_tiff(pixels, whole))
    assert found.dtype == (np.uint16 if dtype == "u2" else np.float32)
    assert np.array_equal(found, pixels.astype(found.dtype))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("predictor", [1, 2])
def test_a_compressed_deep_tiff_is_read(tmp_path: Path, compression: int, predictor: int) -> None:
    pixels = np.cumsum(noise("u2", 3) // 1000, axis=1).astype(np.uint16)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 8]
    made, content = cv2.imencode(".tif", pixels, [*options, cv2.IMWRITE_TIFF_PREDICTOR, predictor])
    assert made and np.array_equal(read(tmp_path, content.tobytes()), pixels[..., ::-1])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_float_tiff_with_the_floating_point_predictor_is_read(tmp_path: Path, dtype: str) -> None:
    pixels = np.asarray(noise(dtype, 3).astype(np.float32), dtype)
    made, content = cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 8, cv2.IMWRITE_TIFF_PREDICTOR, 3])
    assert made and np.array_equal(read(tmp_path, content.tobytes()), pixels[..., ::-1])


def test_channels_that_are_no_alpha_are_left_out(tmp_path: Path) -> None:
    pixels = noise("u2", 4)
    assert np.array_equal(read(tmp_path, odd_tiff(pixels, Shape(2, extra=0))), pixels[..., :3])


def test_alpha_that_was_multiplied_in_is_divided_out(tmp_path: Path) -> None:
    colour, alpha = noise("u2", 3).astype(np.float64), np.rint(np.linspace(20000, 65535, 50))[None, :, None]
    stored = np.concatenate([np.rint(colour * alpha / 65535), np.repeat(alpha, 33, 0)], axis=2).astype(np.uint16)
    found = read(tmp_path, odd_tiff(stored, Shape(2, extra=1)))
    assert np.abs(found[..., :3] - colour).max() <= 65535 / 20000  # half a step divided by the least alpha, rounded again


def test_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    pixels = noise("u2", 1)
    assert np.array_equal(read(tmp_path, odd_tiff(pixels, Shape(0))), 65535 - pixels)


def test_a_tiff_turned_by_its_orientation_is_upright(tmp_path: Path) -> None:
    pixels = noise("u2", 3)
    assert np.array_equal(read(tmp_path, odd_tiff(pixels, Shape(2, more=((274, 3, (6,)),)))), np.rot90(pixels, -1))


def test_a_deep_png_turned_by_its_orientation_is_upright(tmp_path: Path) -> None:
    pixels = noise("u2", 3)
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0"
    assert np.array_equal(read(tmp_path, with_chunks(memoryview(encoded("png", pixels)), [(b"eXIf", exif)])), np.rot90(pixels))  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "values"), [("i2", [5, 300]), ("u4", [5, 65535]), ("i4", [0, 9])])
def test_integers_that_fit_into_16_bits_are_read(tmp_path: Path, dtype: str, values: list[int]) -> None:
    found = read(tmp_path, odd_tiff(np.array([values], dtype)[..., None], Shape()))
    assert found.dtype == np.uint16 and found[0, :, 0].tolist() == values


@pytest.mark.parametrize(("dtype", "values"), [("i2", [-5, 300]), ("u4", [5, 65536]), ("i4", [-1, 9])])
def test_integers_that_do_not_are_refused(tmp_path: Path, dtype: str, values: list[int]) -> None:
    with pytest.raises(
        InputError, match=rf"p: integer samples from {min(values[0], 0)} to {values[1]}, the limits are 0 and 65535"
    ):
        read(tmp_path, odd_tiff(np.array([values], dtype)[..., None], Shape()))


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_of_64_bits_stored_as_differences_are_read(tmp_path: Path, predictor: int, order: Literal["<", ">"]) -> None:
    pixels = np.asarray(noise("f8", 3), np.float64)
    (tmp_path / "p").write_bytes(odd_tiff(pixels, Shape(2, tile=(16, 32), order=order, more=((317, 3, (predictor,)),))))
    with (tmp_path / "p").open("rb") as stream:
        layout = layout_of(next(pages_of(stream)))
    assert layout is not None and layout.predictor == predictor
    padded = np.pad(pixels, ((0, 0), (0, 14), (0, 0))).reshape(33, 2, 32, 3)
    if predictor == 2:
        words = padded.view(np.uint64)
        stored = np.diff(words, axis=2, prepend=np.uint64(0)).astype(f"{order}u8").view(np.uint8)
    else:
        planes = np.moveaxis(padded.astype(">f8").view(np.uint8).reshape(33, 2, 96, 8), 3, 2).reshape(33, 2, 256, 3)
        stored = np.diff(planes, axis=2, prepend=np.uint8(0))
    found = samples_from_octets(stored.reshape(33, 64, 24), replace(layout, compression=8), order)
    assert np.array_equal(found, pixels)


def test_signed_samples_of_8_bits_are_not_taken_for_unsigned_ones(tmp_path: Path) -> None:
    found = read(tmp_path, odd_tiff(np.array([[[5], [100]]], np.int8), Shape()))
    assert found.dtype == np.uint8 and found[0, :, 0].tolist() == [5, 100]
    with pytest.raises(InputError, match=r"p: integer samples from -100 to 5, the limits are 0 and 65535"):
        read(tmp_path, odd_tiff(np.array([[[5], [-100]]], np.int8), Shape()))


def test_floats_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p: holds values that are no finite numbers; replace them first"):
        read(tmp_path, odd_tiff(np.array([[[np.nan]]], np.float32), Shape()))


@pytest.mark.parametrize("shape", [Shape(2), Shape(2, rows=5), Shape(2, tile=(16, 16))])
def test_a_truncated_deep_tiff_is_refused_or_taken_as_far_as_it_goes(tmp_path: Path, shape: Shape) -> None:
    content = odd_tiff(noise("u2", 3), shape)
    with pytest.raises(
        InputError, match=r"p: cannot be decoded \(truncated\); the file ends early or is damaged, sr-infer --allow-tr"
    ):
        read(tmp_path, content[:-2000])
    assert read(tmp_path, content[:-2000], Reading(allow_truncated=True)).shape == (33, 50, 3)


def test_a_deep_tiff_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    content = odd_tiff(noise("u2", 3), Shape(2))[:-9000]
    with pytest.raises(InputError, match=r"p: declares 50x33 pixels, the limit is 1649; cut it into parts"):
        read(tmp_path, content, Reading(max_pixels=1649))


def test_channels_that_show_nothing_count_too(tmp_path: Path) -> None:
    content = odd_tiff(np.zeros((30, 30, 200), np.float64), Shape(2, extra=0))
    bytes_needed = 30 * 30 * 200 * 8
    with pytest.raises(
        InputError, match=rf"p: declares 30x30 pixels of 200 channels of 64 bits, {bytes_needed} bytes, the limit is"
    ):
        read(tmp_path, content, Reading(max_pixels=bytes_needed // 32 - 1))
    assert read(tmp_path, content, Reading(max_pixels=bytes_needed // 32)).shape == (30, 30, 3)
    assert head_of(tmp_path / "p").nbytes == bytes_needed


def test_a_tiff_of_too_few_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p: 2 channels of a colour TIFF, it needs 3"):
        read(tmp_path, odd_tiff(noise("u2", 2), Shape(2)))


@pytest.mark.parametrize("deflated", [False, True])
def test_a_deep_tiff_of_wide_pixels_is_read(tmp_path: Path, deflated: bool) -> None:
    pixels = np.asarray(noise("u2", 3, 2, 400_000), np.uint16)
    content = encoded("tiff", pixels) if deflated else odd_tiff(pixels, Shape(2))
    assert np.array_equal(read(tmp_path, content), pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_a_wide_deep_tiff_is_read(tmp_path: Path, compression: str) -> None:
    pixels = np.arange(1_100_000, dtype=np.uint32).astype(np.uint16).reshape(1, -1)
    Image.fromarray(pixels).save(tmp_path / "q.tif", compression=compression)
    assert np.array_equal(read_picture(tmp_path / "q.tif").pixels[..., 0], pixels)


def test_a_tall_deep_tiff_in_lzw_is_read(tmp_path: Path) -> None:
    pixels = np.arange(1_100_000, dtype=np.uint32).astype(np.uint16).reshape(-1, 1)
    Image.fromarray(pixels).save(tmp_path / "q.tif", compression="tiff_lzw")
    assert np.array_equal(read_picture(tmp_path / "q.tif").pixels[..., 0], pixels)


def test_a_damaged_strip_is_refused_or_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    pixels = np.asarray(noise("u2", 3, 200, 300), np.uint16)
    content = bytearray(encoded("tiff", pixels))
    content[8 + 180_000 : 8 + 180_100] = bytes(100)
    with pytest.raises(InputError, match=r"p: cannot be decoded \(.*incorrect data check\)"):
        read(tmp_path, bytes(content))
    assert np.array_equal(read(tmp_path, bytes(content), Reading(allow_truncated=True))[:60], pixels[:60])


def test_12_bits_in_a_tiff_are_read(tmp_path: Path) -> None:
    stored = np.array([[[0x12, 0x3F, 0xFF]]], np.uint8)  # two samples of 12 bits: 0x123 and 0xFFF
    more = ((256, 4, (2,)), (258, 3, (12,)))
    content = odd_tiff(np.ascontiguousarray(stored.reshape(1, 3, 1)), Shape(more=()))
    for tag, kind, (value,) in more:
        place = content.index(struct.pack("<HHI", tag, kind, 1)) + 8
        content = content[:place] + struct.pack("<I", value) + content[place + 4 :]
    assert read(tmp_path, content)[0, :, 0].tolist() == [0x123, 0xFFF]


def test_collection_of_odd_files_keeps_its_depth(outside: Outside) -> None:
    found = {path.name: read_pixels(path) for path in (outside("odd/valid")).glob("*16*.*[fg]") if "16_" in path.name}
    assert len(found) >= 6
    assert all(pixels.dtype == np.uint16 for pixels in found.values())
    assert found["rgb16_900x600.png"][0, 0].tolist() == [44718, 7196, 10280]  # no multiple of 257: Pillow's 8 bits lose it


def test_damaged_tags_of_a_tiff_make_no_noise(tmp_path: Path) -> None:
    entry = struct.pack("<HHLL", 700, 7, 100_000, 9_999)  # of more bytes than the file has
    content = struct.pack("<2sHLH", b"II", 42, 8, 1) + entry + struct.pack("<L", 0)
    pixels = noise("u2", 3, 8, 9)
    twice = bytearray(odd_tiff(pixels, Shape(2)))
    twice[twice.index(struct.pack("<HHL", 259, 3, 1)) + 4] = 2  # two compressions
    (tmp_path / "p.tif").write_bytes(twice)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(pages_of(BytesIO(content)))) == 1
        assert head_of(tmp_path / "p.tif").shape == (8, 9, 3)

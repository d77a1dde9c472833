"""TIFF files that every reader at hand understands."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_write import (
    Entry,
    directory_bytes,
    numbers,
    pack_strips,
    page_tags,
    strip_rows,
    tiff_parts,
)


def noise(dtype: type, channels: int, h: int = 400, w: int = 700) -> Pixels:
    rng = np.random.default_rng(channels)
    if dtype is np.float32:
        return rng.random((h, w, channels)).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (h, w, channels)).astype(dtype)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_written_is_read_again(tmp_path: Path, dtype: type, channels: int, big: bool) -> None:
    pixels = noise(dtype, channels)
    assert strip_rows(pixels) < 400  # several strips
    (tmp_path / "p.tif").write_bytes(b"".join(tiff_parts([pixels], big=big)))
    found = read_picture(tmp_path / "p.tif").pixels
    assert found.dtype == dtype and np.array_equal(found, pixels)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_it(channels: int, big: bool) -> None:
    pixels = noise(np.uint8, channels)
    profile = bytes(16) + (b"GRAY" if channels <= 2 else b"RGB ") + bytes(108)
    image = Image.open(BytesIO(b"".join(tiff_parts([pixels], icc_profile=profile, big=big))))
    assert image.mode == ["L", "LA", "RGB", "RGBA"][channels - 1] and image.info["icc_profile"] == profile
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_opencv_reads_it(channels: int, dtype: type) -> None:
    pixels = noise(dtype, channels)
    content = np.frombuffer(b"".join(tiff_parts([pixels])), np.uint8)
    found = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED)).reshape(pixels.shape)
    assert np.array_equal(found[..., [2, 1, 0, 3][:channels]] if channels > 1 else found, pixels)


def test_pages_follow_each_other_and_each_has_its_size(tmp_path: Path) -> None:
    pages = [noise(np.uint16, 3), noise(np.uint16, 1, 5, 9), noise(np.uint16, 4, 7, 3)]
    (tmp_path / "p.tif").write_bytes(b"".join(tiff_parts(pages)))
    picture = read_picture(tmp_path / "p.tif", Reading(frames=True))
    assert picture.frames == 3
    assert all(np.array_equal(found, page) for found, page in zip(picture.all_frames, pages, strict=True))


def test_a_profile_goes_to_the_pages_that_it_fits() -> None:
    profile = bytes(16) + b"RGB " + bytes(108)
    pages = [noise(np.uint8, channels, 5, 9) for channels in (3, 1, 4)]
    image = Image.open(BytesIO(b"".join(tiff_parts(pages, icc_profile=profile))))
    found = []
    for number in range(3):
        image.seek(number)
        found.append(image.tag_v2.get(34675))  # type: ignore[attr-defined]
    assert found == [profile, None, profile]


def test_a_file_beyond_4_gb_would_be_a_bigtiff() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sr_deploy.runtime.pictures.tiff_write.CLASSIC_END", 1000)
        assert tiff_parts([noise(np.uint8, 1)])[0][:4] == b"II+\0"
    assert tiff_parts([noise(np.uint8, 1)])[0][:4] == b"II*\0"


def directory_first(pixels: Pixels) -> bytes:
    """Return a deflated TIFF whose directory stands before its strips, so that a part of the file has it."""
    strips = pack_strips(pixels)
    counts = [len(strip) for strip in strips]
    size = len(directory_bytes(page_tags(pixels, counts, counts, None, False), 8, False))
    starts = [8 + size + sum(counts[:number]) for number in range(len(counts))]
    directory = directory_bytes(page_tags(pixels, starts, counts, None, False), 8, False)
    return b"II*\0\x08\0\0\0" + directory + b"".join(strips)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_truncated_compressed_tiff_is_refused_or_taken_as_far_as_it_goes(tmp_path: Path, dtype: type, channels: int) -> None:
    pixels = noise(dtype, channels)
    content = directory_first(pixels)
    (tmp_path / "p.tif").write_bytes(content)
    assert np.array_equal(read_picture(tmp_path / "p.tif").pixels, pixels)
    (tmp_path / "p.tif").write_bytes(content[: len(content) * 3 // 5])  # in the middle of a strip; noise is hardly compressed
    with pytest.raises(InputError, match=r"p\.tif: cannot be decoded"):
        read_picture(tmp_path / "p.tif")
    found = read_picture(tmp_path / "p.tif", Reading(allow_truncated=True)).pixels
    assert found.dtype == dtype and found.shape == pixels.shape
    assert np.array_equal(found[:220], pixels[:220]) and not found[270:].any()


def test_a_directory_within_a_directory_is_found() -> None:
    inner = Entry(4, 1, b"", {0xA002: numbers(4, 77), 0x927C: Entry(7, 9, b"123456789")})
    exif = Image.Exif()
    exif.load(b"Exif\0\0II*\0\x08\0\0\0" + directory_bytes({0x8769: inner, 271: Entry(2, 6, b"Maker\0")}, 8, False))
    assert exif[271] == "Maker" and exif.get_ifd(0x8769) == {0xA002: 77, 0x927C: b"123456789"}

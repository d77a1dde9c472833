"""Files that are written by rows hold what the same picture in memory is written as."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.runtime.large import tiff_rows as large_tiff
from sr_deploy.runtime.large.jpeg_rows import RST0, renumber, split_scan
from sr_deploy.runtime.large.large_picture import WRITERS
from sr_deploy.runtime.large.saving import Carried, carried_by
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.head import blank
from sr_deploy.runtime.pictures.metadata import tags_from
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.samples import Pixels
from tests.runtime.large.large_pictures import profile, samples, with_exif


def written(kind: str, pixels: Pixels, carried: Carried, path: Path) -> Path:
    """Write a picture in parts of 1 to 90 rows."""
    rng, top = np.random.default_rng(1), 0
    with path.open("w+b") as stream:
        writer = WRITERS[kind](stream, blank(pixels.shape[:2], pixels.shape[2], pixels.dtype), carried)
        while top < len(pixels):
            count = int(rng.integers(1, 90))
            writer.write(pixels[top : top + count])
            top += count
        writer.close()
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_files_without_loss_hold_the_rows(tmp_path: Path, kind: str, channels: int, dtype: type[np.uint8]) -> None:
    pixels = samples(channels, dtype)
    found = read_picture(written(kind, pixels, Carried(), tmp_path / "out"))
    assert found.pixels.dtype == dtype and np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [1, 63, 64, 65, 301])
def test_a_jpeg_by_rows_decodes_to_the_pixels_of_one_at_once(tmp_path: Path, quality: int, channels: int, height: int) -> None:
    pixels = samples(channels)[:height]
    (whole,) = encode("jpeg", [pixels.copy()], Picture(pixels), quality)
    found = Image.open(written("jpeg", pixels, Carried(quality=quality), tmp_path / "out"))
    assert np.array_equal(np.asarray(found), np.asarray(Image.open(BytesIO(whole))))


def test_restart_markers_of_a_jpeg_count_on_across_its_parts(tmp_path: Path) -> None:
    _, scan = split_scan(written("jpeg", samples(3), Carried(), tmp_path / "out").read_bytes())
    data = np.frombuffer(scan, np.uint8)
    at = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] >= RST0) & (data[1:] < RST0 + 8)) + 1
    assert np.array_equal(data[at] - RST0, np.arange(len(at)) % 8) and len(at) == -(-301 // 8) - 1
    assert renumber(b"\xff\x00\xd3\xff\xd0a\xff\xd1", 7) == (b"\xff\x00\xd3\xff\xd7a\xff\xd0", 2)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_profile_and_exif_are_those_of_a_picture_in_memory(tmp_path: Path, kind: str) -> None:
    pixels = samples(3)
    picture = Picture(pixels, profile(), tags=tags_from(with_exif(6)), chunks=((b"gAMA", b"\0\0\xb1\x8f"),), format="png")
    (tmp_path / "whole").write_bytes(b"".join(encode(kind, [pixels.copy()], picture)))
    expected = read_picture(tmp_path / "whole")
    found = read_picture(written(kind, pixels, carried_by(picture, kind, 1, None), tmp_path / "out"))
    assert found.icc_profile == expected.icc_profile == profile()
    assert found.tags == expected.tags and found.tags is not None and found.tags.first[271] == "Maker"
    assert found.chunks == expected.chunks and len(found.chunks) == (kind == "png")


def test_a_tiff_beyond_four_gigabytes_has_long_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tiff, "CLASSIC_END", 1000)
    pixels = samples(3)
    path = written("tiff", pixels, Carried(profile()), tmp_path / "out")
    assert path.read_bytes()[:4] == b"II+\0"
    assert np.array_equal(read_picture(path).pixels, pixels)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_a_full_disk_is_told_while_rows_are_written(kind: str) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as stream, pytest.raises(OSError, match="No space") as caught:
        writer = WRITERS[kind](stream, blank((301, 97), 3, np.dtype(np.uint8)), Carried())
        writer.write(samples(3))
        writer.close()
    assert caught.value.errno == errno.ENOSPC

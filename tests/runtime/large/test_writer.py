"""Files that are written by rows hold what the same picture in memory is written as."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.runtime.large.writer import RowWriter
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.head import blank
from sr_deploy.runtime.pictures.metadata import tags_from
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.save import Carried, carried_by
from tests.runtime.large.large_pictures import profile, samples, with_exif


def written(kind: str, pixels: Pixels, carried: Carried, path: Path) -> Path:
    """Write a picture in parts of 1 to 90 rows."""
    rng, top = np.random.default_rng(1), 0
    page = blank(pixels.shape[:2], pixels.shape[2], pixels.dtype)
    with path.open("w+b") as stream, RowWriter(kind, stream, page, carried) as writer:
        while top < len(pixels):
            count = int(rng.integers(1, 90))
            writer.write(pixels[top : top + count])
            top += count
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
@pytest.mark.parametrize("height", [1, 15, 301])
def test_a_jpeg_by_rows_decodes_to_the_pixels_of_one_at_once(tmp_path: Path, quality: int, channels: int, height: int) -> None:
    pixels = samples(channels)[:height]
    (tmp_path / "whole").write_bytes(b"".join(encode("jpeg", [pixels], Picture(pixels), quality)))
    found = read_picture(written("jpeg", pixels, Carried(quality=quality), tmp_path / "out"))
    assert np.array_equal(found.pixels, read_picture(tmp_path / "whole").pixels)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_profile_exif_and_chunks_are_those_of_a_picture_in_memory(tmp_path: Path, kind: str) -> None:
    pixels = samples(3)
    picture = Picture(pixels, profile(), tags=tags_from(with_exif(6)), chunks=((b"gAMA", b"\0\0\xb1\x8f"),), format="png")
    (tmp_path / "whole").write_bytes(b"".join(encode(kind, [pixels], picture)))
    expected = read_picture(tmp_path / "whole")
    found = read_picture(written(kind, pixels, carried_by(picture, kind, (97, 301), None), tmp_path / "out"))
    assert found.icc_profile == expected.icc_profile == profile()
    assert found.tags == expected.tags and found.tags is not None
    assert found.tags.first.get(271) == (None if kind == "tiff" else "Maker")
    assert found.chunks == expected.chunks and len(found.chunks) == (kind == "png")


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_a_full_disk_is_told_while_rows_are_written(kind: str) -> None:
    def fill() -> None:
        with RowWriter(kind, stream, blank((301, 97), 3, np.dtype(np.uint8)), Carried()) as writer:
            writer.write(samples(3))

    with Path("/dev/full").open("r+b", buffering=0) as stream, pytest.raises(OSError, match="No space") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC


def test_what_fails_where_the_rows_come_from_ends_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RowWriter("png", BytesIO(), blank((301, 97), 3, np.dtype(np.uint8)), Carried()) as writer:
        writer.write(samples(3)[:50])
        raise KeyError
    assert not writer.thread.is_alive()

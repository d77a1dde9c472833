"""PNG, JPEG and TIFF files that every reader at hand understands."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import MachineError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.libvips import libvips, set_up
from sr_deploy.runtime.pictures.metadata import tags_from
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.samples import Pixels
from tests.runtime.large.large_pictures import profile


def noise(dtype: type, channels: int, h: int = 400, w: int = 700) -> Pixels:
    rng = np.random.default_rng(channels)
    if dtype is np.float32:
        return rng.random((h, w, channels)).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (h, w, channels)).astype(dtype)


def saved(kind: str, *pages: Pixels, picture: Picture | None = None) -> bytes:
    return b"".join(encode(kind, pages, picture or Picture(pages[0])))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_pillow_reads_it(kind: str, channels: int) -> None:
    pixels = noise(np.uint8, channels)
    image = Image.open(BytesIO(saved(kind, pixels)))
    assert image.mode == ["L", "LA", "RGB", "RGBA"][channels - 1]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("kind", "dtype"), [("png", np.uint16), ("tiff", np.uint16), ("tiff", np.float32)])
def test_opencv_reads_it(kind: str, channels: int, dtype: type) -> None:
    pixels = noise(dtype, channels)
    content = np.frombuffer(saved(kind, pixels), np.uint8)
    found: NDArray[np.generic] = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED)).reshape(pixels.shape)
    assert np.array_equal(found[..., [2, 1, 0, 3][:channels]] if channels > 1 else found, pixels)


def test_pages_follow_each_other_and_each_has_its_size(tmp_path: Path) -> None:
    pages = [noise(np.uint16, 3), noise(np.uint16, 1, 5, 9), noise(np.float32, 4, 7, 3)]
    (tmp_path / "p.tif").write_bytes(saved("tiff", *pages))
    picture = read_picture(tmp_path / "p.tif", Reading(frames=True))
    assert picture.frames == 3
    assert all(np.array_equal(found, page) for found, page in zip(picture.all_frames, pages, strict=True))


@pytest.mark.parametrize("height", [1, 2, 3, 6, 7])
def test_the_last_row_of_a_tiff_is_there_wherever_strips_end(
    tmp_path: Path, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(np.uint16, 3, height, 50)
    for rows in (1, 2, 3, 5):
        monkeypatch.setattr("sr_deploy.runtime.pictures.save.STRIP", rows * 300)
        (tmp_path / "p.tif").write_bytes(saved("tiff", pixels))
        assert np.array_equal(read_picture(tmp_path / "p.tif").pixels, pixels)


def test_a_profile_goes_to_the_pages_that_it_fits() -> None:
    pages = [noise(np.uint8, channels, 5, 9) for channels in (3, 1, 4)]
    image = Image.open(BytesIO(saved("tiff", *pages, picture=Picture(pages[0], profile()))))
    found = []
    for number in range(3):
        image.seek(number)
        found.append(image.tag_v2.get(34675))  # type: ignore[attr-defined]
    assert found == [profile(), None, profile()]


@pytest.mark.parametrize("count", [1, 2])
def test_a_file_beyond_4_gb_would_be_a_bigtiff(tmp_path: Path, count: int) -> None:
    pages = [noise(np.uint8, 1)] * count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sr_deploy.runtime.pictures.save.CLASSIC_END", 1000)
        (tmp_path / "p.tif").write_bytes(saved("tiff", *pages))
    assert (tmp_path / "p.tif").read_bytes()[:4] == b"II+\0" and saved("tiff", *pages)[:4] == b"II*\0"
    found = read_picture(tmp_path / "p.tif", Reading(frames=True))
    assert found.frames == count and np.array_equal(found.pixels, pages[0])


@pytest.mark.parametrize(("unit", "dpi"), [(2, (300.0, 150.0)), (3, (762.0, 381.0))])
def test_a_tiff_keeps_its_resolution(unit: int, dpi: tuple[float, float]) -> None:
    exif, pixels = Image.Exif(), noise(np.uint8, 3, 5, 9)
    exif[282], exif[283], exif[296] = 300.0, 150.0, unit
    image = Image.open(BytesIO(saved("tiff", pixels, picture=Picture(pixels, tags=tags_from(exif)))))
    assert image.info["dpi"] == pytest.approx(dpi)


def test_a_png_names_no_resolution_that_nobody_knows() -> None:
    assert "dpi" not in Image.open(BytesIO(saved("png", noise(np.uint8, 3, 5, 9)))).info


def test_other_decoders_cannot_be_reached() -> None:
    vips = libvips()
    for kind, content in (
        ("svg", b"<svg width='9' height='9' xmlns='http://www.w3.org/2000/svg'/>"),
        ("gif", b"GIF89a" + bytes(20)),
    ):
        with pytest.raises(vips.Error, match="blocked"):
            getattr(vips.Image, f"{kind}load_buffer")(content)


def test_a_pyvips_without_libvips_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyvips.py").write_text("raise OSError(\"cannot load library 'libvips.so.42'\")")
    monkeypatch.delitem(sys.modules, "pyvips", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    set_up.cache_clear()
    with pytest.raises(
        MachineError, match=r"pyvips finds no libvips \(cannot load library 'libvips\.so\.42'\); pip install 'pyvips"
    ):
        libvips()

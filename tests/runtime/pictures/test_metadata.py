"""EXIF goes along and is true afterwards, in every format that holds it."""

from __future__ import annotations

import struct
import tracemalloc
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from sr_deploy.pictures import ORIENTATION, Reading, picture_size, source
from sr_deploy.planes import read_rgb
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.head import png_parts
from sr_deploy.runtime.pictures.metadata import EXIF_IFD, GPS_IFD, MAKER_NOTE, PIXEL_HEIGHT, PIXEL_WIDTH, Tags, tags_from
from sr_deploy.runtime.pictures.orientation import upright
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import head_of, read_picture
from tests.conftest import Outside

FORMATS = ("jpeg", "png", "webp", "avif")


def camera_exif(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright], exif[ORIENTATION] = "Maker", "Some One", orientation
    exif[EXIF_IFD] = {
        PIXEL_WIDTH: 30,
        PIXEL_HEIGHT: 20,
        0x829A: 0.004,
        0x9003: "2024:01:02 03:04:05",
        0x9286: b"ASCII\0\0\0hello",
    }
    exif[GPS_IFD] = {1: "N", 2: (52.0, 30.0, 15.5), 3: "E", 4: (13.0, 24.0, 1.0)}
    found = Image.Exif()
    found.load(exif.tobytes())
    return found


def photograph(path: Path, exif: Image.Exif) -> Picture:
    Image.effect_noise((30, 20), 60).convert("RGB").save(path, exif=exif.tobytes())
    return read_picture(path)


def written(tmp_path: Path, kind: str, picture: Picture) -> Image.Image:
    parts = encode(kind, [np.repeat(np.repeat(picture.pixels, 2, 0), 2, 1)], picture)
    return Image.open(BytesIO(b"".join(parts)))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("given", ["p.jpg", "p.png", "p.webp", "p.tif", "p.avif"])
def test_exif_goes_along_upright_and_with_the_new_size(tmp_path: Path, kind: str, given: str) -> None:
    picture = photograph(tmp_path / given, camera_exif())
    assert picture.pixels.shape == (30, 20, 3)
    exif = written(tmp_path, kind, picture).getexif()
    assert (exif.get(ORIENTATION, 1), exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright]) == (1, "Maker", "Some One")
    inner, gps = exif.get_ifd(EXIF_IFD), exif.get_ifd(GPS_IFD)
    assert (inner[PIXEL_WIDTH], inner[PIXEL_HEIGHT]) == (40, 60)
    assert (inner[0x9003], inner[0x9286]) == ("2024:01:02 03:04:05", b"ASCII\0\0\0hello")
    assert Fraction(inner[0x829A]).limit_denominator(1000) == Fraction(1, 250)
    assert gps[1] == "N" and [float(value) for value in gps[2]] == [52.0, 30.0, 15.5]


def test_what_described_the_file_stays_behind(tmp_path: Path) -> None:
    Image.effect_noise((30, 20), 60).save(tmp_path / "p.tif", compression="tiff_lzw", software="Editor")
    exif = written(tmp_path, "jpeg", read_picture(tmp_path / "p.tif")).getexif()
    assert exif[ExifTags.Base.Software] == "Editor"
    assert not {256, 257, 258, 259, 262, 273, 277, 278, 279} & set(exif)


@pytest.mark.parametrize("description", ["<?xml version='1.0'?><OME SizeX='30'/>", "ImageJ=1.53t", '{"shape": [20, 30]}'])
@pytest.mark.parametrize("kind", [*FORMATS, "tiff"])
def test_a_description_of_a_files_structure_stays_behind(tmp_path: Path, kind: str, description: str) -> None:
    Image.effect_noise((30, 20), 60).save(tmp_path / "p.tif", description=description, software="Editor")
    picture = read_picture(tmp_path / "p.tif")
    assert picture.tags is not None and picture.tags.first[ExifTags.Base.Software] == "Editor"
    assert description[:9].encode() not in b"".join(encode(kind, [picture.pixels], picture))


def test_a_picture_without_exif_gets_none(tmp_path: Path) -> None:
    Image.effect_noise((30, 20), 60).save(tmp_path / "p.png")
    picture = read_picture(tmp_path / "p.png")
    assert picture.tags is None
    for kind in ("jpeg", "png", "webp"):
        assert not written(tmp_path, kind, picture).getexif()


def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path: Path) -> None:
    content = camera_exif().tobytes()
    for cut in (8, 30, 60, len(content) - 20):
        Image.effect_noise((30, 20), 60).save(tmp_path / "p.jpg", exif=content[:cut])
        assert read_picture(tmp_path / "p.jpg").pixels.shape[2] == 1


@pytest.mark.parametrize("name", ["p.png", "p.webp"])
@pytest.mark.parametrize("exif", [b"garbage", b"MM", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_is_no_reason_to_refuse_a_picture_anywhere(tmp_path: Path, name: str, exif: bytes) -> None:
    path = tmp_path / name
    frames = [Image.effect_noise((30, 20), 60).convert("RGB") for _ in range(2)]
    frames[0].save(path, exif=exif, save_all=True, append_images=frames[1:])
    assert read_picture(path).pixels.shape == head_of(path).shape == read_rgb(path).shape
    assert picture_size(path) == (20, 30)
    assert len(read_picture(path, Reading(frames=True)).all_frames) == 2


def test_the_length_that_an_exif_chunk_declares_is_not_reserved(tmp_path: Path) -> None:
    Image.effect_noise((30, 20), 60).save(tmp_path / "p.png")
    with (tmp_path / "p.png").open("r+b") as stream:
        stream.seek(-12, 2)  # where the last chunk begins
        stream.write(struct.pack(">I4s", 200_000_000, b"eXIf") + b"II*\0")
    tracemalloc.start()
    try:
        with source(tmp_path / "p.png") as stream:
            exif, _ = png_parts(stream)
        assert exif is not None and tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_tag_that_cannot_be_written_is_left_out_alone() -> None:
    exif = camera_exif()
    exif[ExifTags.Base.Artist] = object()
    tags = tags_from(exif)
    assert tags is not None and ExifTags.Base.Artist not in tags.first and tags.first[ExifTags.Base.Make] == "Maker"


def test_a_makers_note_that_no_jpeg_holds_is_left_out() -> None:
    found = tags_from(camera_exif())
    assert found is not None
    tags = Tags(found.first, {**found.exif, MAKER_NOTE: bytes(70_000)}, found.gps)
    assert len(tags.written((1, 1))) > 70_000
    assert 0 < len(tags.written((1, 1), longest=65_533)) < 65_533


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    image = Image.fromarray(pixels[..., 0])
    expected = np.asarray(image if turn is None else image.transpose(turn))
    assert np.array_equal(upright(pixels, orientation)[..., 0], expected)
    assert upright(pixels, orientation).flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, "6", None])
def test_what_is_no_orientation_turns_nothing(orientation: object) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    assert upright(pixels, orientation) is pixels


def test_what_a_png_says_of_its_colours_goes_along(tmp_path: Path, outside: Outside) -> None:
    picture = read_picture(outside("odd/valid") / "rgb16_32x32.png")
    assert [name for name, _ in picture.chunks] == [b"gAMA"]
    assert written(tmp_path, "png", picture).info["gamma"] == 1.0

"""Text, comments, XMP, IPTC and profiles: in the result where its format holds them, else named."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from sr_deploy.pictures import Reading
from sr_deploy.runtime.pictures.beside import Beside, beside_of_png, is_deep_avif, others_in, with_xmp
from sr_deploy.runtime.pictures.encode import encode, not_kept
from sr_deploy.runtime.pictures.formats import FORMATS
from sr_deploy.runtime.pictures.head import png_parts
from sr_deploy.runtime.pictures.jpeg_file import COM, IPTC_MARK, segment
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import head_of, read_picture

SAVED = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "tiff": "TIFF", "gif": "GIF", "bmp": "BMP"}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="5" tiff:Orientation="6"\n '
    b'exif:PixelXDimension="9">'
    b"<tiff:ImageWidth>9</tiff:ImageWidth><dc:title>Dune</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x50\x00\x04Anna"  # 2:80, by-line


def profile_of(space: str) -> bytes:
    """A profile that littleCMS can use: sRGB's, or its own with another space and a grey curve."""
    if space == "RGB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 0x0133) + bytes(2)  # gamma 1.2
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    at = 128 + 4 + 2 * 12
    tags = struct.pack(">I", 2) + b"kTRC" + struct.pack(">II", at, 14) + b"wtpt" + struct.pack(">II", at + 16, 20)
    body = tags + curve + white
    head = struct.pack(">I4sI4s4s4s12s4s", 128 + len(body), b"lcms", 0x04000000, b"mntr", b"GRAY", b"XYZ ", bytes(12), b"acsp")
    illuminant = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(68, b"\0") + illuminant + bytes(128 - 80) + body


def grey(size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.effect_noise(size, 60)


def result(picture: Picture, kind: str) -> bytes:
    return b"".join(encode(kind, [pixels.copy() for pixels in picture.all_frames], picture))


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


def text_png(path: Path) -> Picture:
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "Anna")
    info.add_text("parameters", "steps: 20", zip=True)
    info.add_itxt("Comment", "D\u00fcne", "de", "Kommentar", zip=True)
    grey().save(path, pnginfo=info)
    return read_picture(path)


def test_text_of_a_png_stays_in_a_png_also_behind_the_pixels(tmp_path: Path) -> None:
    text_png(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    data = b"Author\0Ben"
    late = struct.pack(">I4s", len(data), b"tEXt") + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    (tmp_path / "a.png").write_bytes(content[:-12] + late + content[-12:])
    picture = read_picture(tmp_path / "a.png")
    found = opened(result(picture, "png"))
    assert found.info | {} == {"Copyright": "Anna", "parameters": "steps: 20", "Comment": "D\u00fcne", "Author": "Ben"}
    assert found.info["Comment"].lang == "de" and not_kept("png", picture) == ()


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "png"])
def test_text_of_a_png_is_named_elsewhere_and_a_comment_stays_one(tmp_path: Path, kind: str) -> None:
    picture = text_png(tmp_path / "a.png")
    more = "" if kind in ("jpeg", "gif") else ", Comment"
    assert not_kept(kind, picture) == (f"text (Copyright, parameters{more})",)
    comment = opened(result(picture, kind)).info.get("comment")
    assert comment == (None if more else "D\u00fcne".encode())


@pytest.mark.parametrize("kind", FORMATS)
def test_comments_of_a_jpeg_and_a_gif_stay_or_are_named(tmp_path: Path, kind: str) -> None:
    grey().save(tmp_path / "a.jpg", comment=b"one")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment(COM, b"t\xfco") + content[2:])
    grey().save(tmp_path / "a.gif", comment=b"one")
    for name, expected in (("a.jpg", [b"t\xfco", b"one"]), ("a.gif", [b"one"])):
        picture = read_picture(tmp_path / name)
        found = opened(result(picture, kind))
        if kind == "jpeg":
            assert [data for name, data in found.applist if name == "COM"] == expected  # type: ignore[attr-defined]
        elif kind == "png":
            assert found.info["Comment"] == "one"
        elif kind == "gif":
            assert found.info["comment"] == b"\n".join(expected)
        assert not_kept(kind, picture) == (() if kind in ("jpeg", "png", "gif") else ("comments",))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("given", ["png", "jpeg", "webp", "avif", "tiff"])
def test_xmp_goes_along_without_what_was_the_files(tmp_path: Path, given: str, kind: str) -> None:
    path = tmp_path / f"a.{given}"
    if given == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
        grey().save(path, pnginfo=info)
    elif given == "tiff":
        grey().save(path, tiffinfo={700: XMP})
    else:
        grey().convert("RGB").save(path, SAVED[given], xmp=XMP)
    picture = read_picture(path)
    found = opened(result(picture, kind)).info.get("xmp", b"")
    if kind in ("png", "jpeg", "webp", "avif"):
        assert b"Dune" in found and b'xmp:Rating="5"' in found and not_kept(kind, picture) == ()
        assert b"Orientation" not in found and b"PixelX" not in found and b"ImageWidth" not in found
    else:
        assert not_kept(kind, picture) == ("XMP",)


def test_xmp_about_what_a_result_has_not_is_named() -> None:
    for part in (b'hdrgm:Version="1.0"', b"<Container:Directory/>", b'GCamera:MotionPhoto="1"'):
        found = with_xmp(Beside(), XMP.replace(b'xmp:Rating="5"', part))
        assert found.xmp == b"" and found.lost == ("XMP about further parts of the file",)
    assert with_xmp(Beside(), XMP.decode().encode("utf-16")).lost == ("XMP that cannot be read",)
    assert with_xmp(Beside(), b"\0\0").lost == ()


def test_xmp_is_made_true_in_a_time_that_goes_by_its_length() -> None:
    for bomb in (b" " * 10**6, b"<tiff:Orientation " * 10**5, b" tiff:Orientation='" * 10**5, b" tiff:Orientation" * 10**5):
        began = time.process_time()
        assert with_xmp(Beside(), XMP + bomb).xmp
        assert time.process_time() - began < 2  # it takes some milliseconds, and minutes where it goes by the square


def test_iptc_stays_in_a_jpeg_and_is_named_elsewhere(tmp_path: Path) -> None:
    grey().save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    own = segment(0xED, IPTC_MARK + struct.pack(">I", len(IPTC)) + IPTC + b"\0")
    (tmp_path / "a.jpg").write_bytes(content[:2] + own + content[2:])
    grey().save(tmp_path / "a.tif", tiffinfo={33723: IPTC})
    for name in ("a.jpg", "a.tif"):
        picture = read_picture(tmp_path / name)
        assert opened(result(picture, "jpeg")).info["photoshop"] == {0x0404: IPTC}
        assert not_kept("jpeg", picture) == () and "IPTC" in not_kept("png", picture)


def test_credentials_and_raw_profiles_of_a_png_are_named() -> None:
    raw = [
        (b"caBX", b"c2pa"),
        (b"zTXt", b"Raw profile type iptc\0\0x"),
        (b"tEXt", b"Raw profile type exif\0x"),
        (b"gAMA", b"1234"),
    ]
    chunks, found = beside_of_png(raw)
    assert chunks == ((b"gAMA", b"1234"),)
    assert found.lost == ("content credentials (C2PA)", "text 'Raw profile type iptc'")


def test_damaged_text_is_left_out(tmp_path: Path) -> None:
    picture = text_png(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"tEXt") - 4
    with BytesIO(content[:at] + struct.pack(">I", 2**31 - 1) + content[at + 4 :]) as stream:
        assert b"tEXt" not in dict(png_parts(stream)[1])
    assert picture.beside.texts


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "P"])
@pytest.mark.parametrize("space", ["GRAY", "RGB"])
@pytest.mark.parametrize("given", ["png", "jpeg", "webp", "tiff"])
def test_no_result_has_a_profile_of_another_space(tmp_path: Path, given: str, space: str, mode: str, kind: str) -> None:
    image = Image.merge("RGB", [grey(), grey(), grey()]).convert("P" if mode == "P" else "RGB").convert(mode)
    if (given == "jpeg" and mode in ("LA", "RGBA", "P")) or (given in ("png", "webp") and mode == "CMYK"):
        return
    image.save(tmp_path / "a", SAVED[given], icc_profile=profile_of(space))
    picture = read_picture(tmp_path / "a")
    if picture.pixels.shape[2] in (2, 4) and not FORMATS[kind].alpha:
        return
    found = opened(result(picture, kind))
    profile = found.info.get("icc_profile")
    shown = b"GRAY" if found.mode in ("L", "LA", "I;16") else b"RGB "
    assert profile is None or profile[16:20] == shown
    applied = kind in ("webp", "avif") and picture.icc_profile is not None and space == "GRAY"
    fits = space == ("GRAY" if picture.pixels.shape[2] <= 2 else "RGB") and mode != "CMYK"
    assert (profile is None) == (not fits or kind in ("gif", "bmp") or applied)
    assert applied or (profile is None) == any("profile" in what for what in not_kept(kind, picture))


def test_a_grey_profile_is_applied_where_only_colours_are_held() -> None:
    pixels = np.full((4, 5, 2), (128, 70), np.uint8)
    picture = Picture(pixels, profile_of("GRAY"))
    found = np.asarray(opened(result(picture, "webp")))
    expected = 255 * (1.055 * (128 / 255) ** (1.2 / 2.4) - 0.055)  # of gamma 1.2 to sRGB
    assert found.shape == (4, 5, 4) and (found[..., 3] == 70).all() and np.abs(found[..., :3] - expected).max() <= 2
    damaged = Picture(pixels, bytes(16) + b"GRAY" + bytes(200))
    assert "icc_profile" not in opened(result(damaged, "webp")).info
    assert not_kept("webp", damaged) == ("the colour profile, which is damaged",)


def test_further_pictures_of_a_jpeg_are_counted_previews_are_not(tmp_path: Path) -> None:
    grey().save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[grey(), grey()])
    found = read_picture(tmp_path / "a.mpo")
    assert (found.format, found.frames, found.beside.others) == ("jpeg", 1, 2)
    with Image.open(tmp_path / "a.mpo") as image:
        entries = image.mpinfo[0xB002]  # type: ignore[attr-defined]
        entries[1]["Attribute"]["MPType"] = "Large Thumbnail (VGA Equivalent)"
        assert others_in(image) == 1


def test_a_gain_map_is_counted_and_what_xmp_says_of_it_named(tmp_path: Path) -> None:
    xmp = XMP.replace(b'xmp:Rating="5"', b'hdrgm:Version="1.0"')
    grey().convert("RGB").save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[grey((4, 3))], xmp=xmp)
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.format, picture.frames, picture.beside.others) == ("jpeg", 1, 1)
    assert not_kept("jpeg", picture) == ("XMP about further parts of the file",)


def test_an_avif_of_more_than_8_bits_is_named(tmp_path: Path) -> None:
    grey().convert("RGB").save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    at = content.index(b"av1C") + 6
    assert not_kept("avif", head_of(tmp_path / "a.avif").picture) == ()
    (tmp_path / "a.avif").write_bytes(content[:at] + bytes([content[at] | 0x40]) + content[at + 1 :])
    assert is_deep_avif(content[:at] + bytes([content[at] | 0x40])) and not is_deep_avif(content[:at])


@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_a_deep_picture_has_no_profile_of_another_space(tmp_path: Path, kind: str) -> None:
    pixels = np.full((4, 5, 3), 40_000, np.uint16)
    for space, lost in (("RGB", ()), ("GRAY", ("a colour profile that does not fit (GRAY, the picture is RGB)",))):
        content = result(Picture(pixels, profile_of(space if kind == "png" else "RGB")), kind)
        (tmp_path / "a").write_bytes(content.replace(b"mntrRGB ", b"mntr" + space.encode().ljust(4)))
        picture = read_picture(tmp_path / "a")
        assert picture.pixels.dtype == np.uint16 and (picture.icc_profile is None) == bool(lost)
        assert not_kept(kind, picture) == lost


def test_text_of_an_animation_stays(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "Anna")
    grey().save(tmp_path / "a.png", pnginfo=info, save_all=True, append_images=[grey()], duration=50)
    picture = read_picture(tmp_path / "a.png", Reading(frames=True))
    found = opened(result(picture, "png"))
    assert found.info["Copyright"] == "Anna" and found.n_frames == 2  # type: ignore[attr-defined]

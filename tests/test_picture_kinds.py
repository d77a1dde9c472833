"""Kinds of pictures by content and name, and what is said of those that are not read."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy import picture_kinds
from sr_deploy.errors import InputError
from sr_deploy.files import PICTURE_SUFFIXES
from sr_deploy.picture_kinds import READ, SUFFIXES, check_read, kind_of, kind_of_content

HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"


@pytest.mark.parametrize("kind", READ)
def test_what_pillow_writes_is_known_by_its_content(kind: str) -> None:
    stream = BytesIO()
    Image.new("RGB", (9, 7)).save(stream, kind)
    assert kind_of_content(stream.getvalue()[:512]) == kind
    assert kind_of(Path("a.heic"), stream.getvalue()) == kind_of(Path("a"), stream.getvalue()) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", ""),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        (b"8BPS\0\1", "PSD"),
        (b"%PDF-1.7", "PDF"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a --><svg>', "SVG"),
        (b'<?xml version="1.0"?><html>', ""),
        (b"BMx is a text", ""),
        (b"\xff\xff\xff\xffftypabcd\0\0\0\0" + b"efgh" * 124, ""),
        (b"", ""),
    ],
)
def test_content_tells_the_kind(head: bytes, kind: str) -> None:
    assert kind_of_content(head) == kind


def test_a_name_speaks_where_the_content_does_not() -> None:
    assert kind_of(Path("a.NEF"), b"MM\0*") == "NEF" and kind_of(Path("a.tif"), b"MM\0*") == "TIFF"
    assert kind_of(Path("a.tga"), b"???") == "TGA" and kind_of(Path("a.txt"), b"???") == ""


def test_no_suffix_is_both_read_and_not_read() -> None:
    assert PICTURE_SUFFIXES.isdisjoint(SUFFIXES)


def test_what_is_not_read_is_one_line_with_what_converts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^a: is HEIC, which is not read; write it as PNG, JPEG or TIFF with heif-convert$"):
        check_read(Path("a"), HEIC)
    avif = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1"
    check_read(Path("a"), avif)
    monkeypatch.setattr(picture_kinds, "reads_avif", lambda: False)
    with pytest.raises(InputError, match=r"this Pillow does not read; pip install -U Pillow"):
        check_read(Path("a"), avif)

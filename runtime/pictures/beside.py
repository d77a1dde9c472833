"""Text, XMP and IPTC beside a picture: what a result keeps of them, and the words for what it does not.

XMP loses what was true of the file alone: orientation, size, and where its second part is. Where it describes further pictures or
a video in the file, which no result has, it stays behind.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from PIL import Image

from sr_deploy.runtime.pictures.png_file import Chunks

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")  # PNG, third edition, 11.3.3
CREDENTIALS_CHUNK = b"caBX"
XMP_KEYWORD = b"XML:com.adobe.xmp"
RAW_PROFILE = b"Raw profile type "  # ImageMagick's: EXIF, IPTC, XMP as text
COMMENT = b"Comment"
MOST_TEXT = 2**26  # bytes of a text, and of XMP that is compressed
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
XMP_TAG, IPTC_TAG = 700, 33723  # of TIFF
IPTC_RESOURCE = 0x0404  # of Photoshop
STALE = rb"(?:tiff:(?:Orientation|ImageWidth|ImageLength)|exif:Pixel[XY]Dimension|xmpNote:HasExtendedXMP)"
STALE_ATTRIBUTE = re.compile(rb"\s" + STALE + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')")
STALE_ELEMENT = re.compile(rb"<(" + STALE + rb")\b[^<>]*(?:/>|>[^<]*</\1\s*>)")
OF_PARTS = re.compile(rb"\b(?:hdrgm|Container|GContainer|GDepth|GImage|HDRGainMap):|MicroVideo|MotionPhoto")
CREDENTIALS = "content credentials (C2PA)"  # signed for the old pixels


@dataclass(frozen=True)
class Beside:
    """What stands beside the pixels of a file but EXIF and profile."""

    comments: tuple[bytes, ...] = ()  # of a JPEG or a GIF
    texts: tuple[str, ...] = ()  # keywords of a PNG's text, which is in the picture's ``chunks``
    xmp: bytes = b""
    iptc: bytes = b""
    lost: tuple[str, ...] = ()  # what no result has, in words
    others: int = 0  # further pictures in the file, previews left out, that are no frames or pages


def beside_of(image: Image.Image) -> Beside:
    """Return what Pillow has found in an opened file that is no PNG. Damaged parts are left out."""
    info, segments = image.info, getattr(image, "applist", ())
    comments = [data for name, data in segments if name == "COM"] or [info.get("comment")]
    lost = []
    for name, data in segments:
        if name == "APP1" and data.startswith(EXTENDED):
            lost.append("extended XMP")
        if name == "APP11" and b"c2pa" in data:
            lost.append(CREDENTIALS)
    if bytes(info.get("extension", (b"",))[0]).startswith(b"XMP Data"):  # of a GIF
        lost.append("XMP")
    tags = getattr(image, "tag_v2", {})
    resources = info.get("photoshop")
    iptc = resources.get(IPTC_RESOURCE) if isinstance(resources, dict) else tags.get(IPTC_TAG)
    kept = tuple(dict.fromkeys(data for data in comments if isinstance(data, bytes) and data))
    found = Beside(kept, iptc=octets(iptc), lost=tuple(dict.fromkeys(lost)), others=others_in(image))
    return with_xmp(found, octets(info.get("xmp")))


def is_deep_avif(head: bytes) -> bool:
    """Return whether an AVIF that begins with ``head`` has more than 8 bits a sample, which Pillow reads in 8."""
    place = head.find(b"av1C")  # AV1 codec configuration: version, profile and level, then tier and depth
    flags = head[place + 6 : place + 7]
    return place >= 0 and bool(flags) and bool(flags[0] & 0x40)


def beside_of_tags(xmp: object, iptc: object) -> Beside:
    """Return what two tags of a TIFF hold."""
    return with_xmp(Beside(iptc=octets(iptc)), octets(xmp))


def beside_of_png(chunks: Chunks) -> tuple[tuple[tuple[bytes, bytes], ...], Beside]:
    """Return a PNG's chunks without those that no result has, XMP made true, and what they hold."""
    kept, texts, found = [], [], Beside()
    for name, data in chunks:
        keyword = data.partition(b"\0")[0]
        words = keyword.decode("latin-1")
        if name == CREDENTIALS_CHUNK:
            found = replace(found, lost=(*found.lost, CREDENTIALS))
        elif name not in TEXT_CHUNKS:
            kept.append((name, data))
        elif keyword == XMP_KEYWORD:
            found = with_xmp(found, text_in(name, data))
            kept += xmp_chunks(found.xmp)
        elif len(data) > MOST_TEXT or (keyword.startswith(RAW_PROFILE) and not keyword.endswith(b" exif")):
            found = replace(found, lost=(*found.lost, f"text {words!r}"))
        elif not keyword.startswith(RAW_PROFILE):  # Pillow has read that of EXIF
            kept.append((name, data))
            texts.append(words)
    return tuple(kept), replace(found, texts=tuple(dict.fromkeys(texts)))


def with_xmp(beside: Beside, xmp: bytes) -> Beside:
    """Return what stands beside a picture with XMP as a result may have it."""
    if not xmp.strip(b"\0 \r\n"):
        return beside
    if b"xmpmeta" not in xmp and b"RDF" not in xmp:
        return replace(beside, lost=(*beside.lost, "XMP that cannot be read"))
    if OF_PARTS.search(xmp):
        return replace(beside, lost=(*beside.lost, "XMP about further parts of the file"))
    return replace(beside, xmp=STALE_ELEMENT.sub(b"", STALE_ATTRIBUTE.sub(b"", xmp.rstrip(b"\0"))))


def text_in(name: bytes, data: bytes) -> bytes:
    """Return the text of a chunk as it is stored, decompressed; nothing where it is damaged."""
    text = data.partition(b"\0")[2]
    packed = name == b"zTXt" or (name == b"iTXt" and text[:1] == b"\1")
    if name == b"iTXt":  # behind two flags, the language and the translated keyword
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return text
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(text[name == b"zTXt" :], MOST_TEXT)
    return b""


def xmp_chunks(xmp: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunk of a PNG that holds XMP, if there is some."""
    return [(b"iTXt", XMP_KEYWORD + bytes(5) + xmp)] if xmp else []


def comment_chunks(beside: Beside) -> list[tuple[bytes, bytes]]:
    """Return comments as text of a PNG: UTF-8 where they are, or else Latin-1."""
    return [(b"iTXt", COMMENT + bytes(5) + text_of(comment).encode()) for comment in beside.comments]


def comments_of(beside: Beside, chunks: Chunks) -> list[bytes]:
    """Return comments, also those that a PNG has as text."""
    found = [text_in(name, data) for name, data in chunks if name in TEXT_CHUNKS and data.startswith(COMMENT + b"\0")]
    return [*beside.comments, *filter(None, found)]


def text_of(comment: bytes) -> str:
    """Return a comment as text."""
    try:
        return comment.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return comment.rstrip(b"\0").decode("latin-1")


def others_in(image: Image.Image) -> int:
    """Return how many further pictures a JPEG holds, previews left out (CIPA DC-007, 5.2.3.3.1)."""
    with suppress(Exception):  # Pillow's parser raises whatever it met
        found = getattr(image, "mpinfo", None) or (image._getmp() if "mp" in image.info else None)  # type: ignore[attr-defined]
        entries = found[0xB002] if found else ()
        return sum("Thumbnail" not in str(entry["Attribute"]["MPType"]) for entry in entries[1:])
    return 0


def octets(value: object) -> bytes:
    """Return what a parser gives as bytes, alone or as the only one of its kind; nothing for anything else."""
    value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""


def some_of(words: Sequence[str]) -> str:
    """Return the first of some words, and how many more there are."""
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")

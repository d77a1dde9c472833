"""Kinds of picture files, by their first bytes and their suffixes: those that are read, and what converts the others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sr_deploy.errors import InputError

HEAD = 512  # bytes of a file that tell its kind
READ = ("PNG", "JPEG", "WebP", "TIFF", "BMP", "GIF", "AVIF")
CAMERA = (  # raw files
    *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "arq", "srf", "sr2", "orf", "ori", "raf", "rw2", "rwl", "pef", "srw"),
    *("3fr", "fff", "iiq", "erf", "mef", "mos", "mrw", "kdc", "dcr", "x3f", "gpr"),
)
OTHERS = {  # suffixes of kinds that are not read
    "HEIC": ("heic", "heif", "hif", "heics", "heifs"),
    "JPEG XL": ("jxl",),
    "JPEG 2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jpm", "jph"),
    "JPEG XR": ("jxr", "wdp", "hdp"),
    "PDF": ("pdf",),
    "SVG": ("svg", "svgz"),
    "PostScript": ("eps", "ps", "ai"),
    "PSD": ("psd", "psb"),
    "ICO": ("ico", "cur"),
    "ICNS": ("icns",),
    "PNM": ("pnm", "pbm", "pgm", "ppm", "pam", "pfm"),
    "DICOM": ("dcm", "dicom"),
    "DjVu": ("djvu", "djv"),
    **{name.upper(): (name,) for name in ("xcf", "kra", "tga", "pcx", "exr", "hdr", "dds", "qoi", "sgi", "wmf", "emf", "bpg")},
    **{name.upper(): (name,) for name in ("flif", "dpx", "xbm", "xpm", "fits", "jng", "mng", "jls", "ktx", "ktx2")},
    **{name.upper(): (name,) for name in CAMERA},
}
RAW = frozenset(name.upper() for name in CAMERA)
TOOLS = {  # what writes a kind as PNG, JPEG or TIFF; of the others ImageMagick's
    "HEIC": "heif-convert",
    "JPEG XL": "djxl",
    "JPEG XR": "JxrDecApp",
    "PDF": "pdftoppm -png",
    "SVG": "rsvg-convert",
    "DICOM": "dcm2pnm",
    "DjVu": "ddjvu",
    "KRA": "krita --export",
    "a camera's raw file": "darktable-cli",
    **dict.fromkeys(RAW, "darktable-cli"),
}
SUFFIXES = {f".{suffix}": kind for kind, suffixes in OTHERS.items() for suffix in suffixes}
STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"II\xbc": "JPEG XR",
    b"8BPS": "PSD",
    b"%PDF-": "PDF",
    b"%!PS": "PostScript",
    b"gimp xcf": "XCF",
    b"v/1\x01": "EXR",
    b"#?RADIANCE": "HDR",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"BPG\xfb": "BPG",
    b"AT&TFORM": "DjVu",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"IIU\0": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
    b"FOVb": "X3F",
    b"\0MRM": "MRW",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
BRANDS = {  # of a file in boxes (ISO/IEC 23008-12, Annex B; AVIF 1.1, 6)
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "CR3",
    b"jxl ": "JPEG XL",
}
NEW_SUBFILE_TYPE, SUB_IFDS, DNG_VERSION = 254, 330, 50706  # tags of TIFF, and of DNG 1.7
BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of a BMP's second header


def kind_of_content(head: bytes) -> str:
    """Return the kind of picture whose file begins with ``head``; nothing where it is none, or none that is known."""
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
        return next((BRANDS[brand] for brand in sorted(brands, key=(b"mif1", b"msf1").count) if brand in BRANDS), "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BITMAP_HEADERS:
        return "BMP"
    if head[8:11] == b"CR\x02":
        return "CR2"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!")) and b"<svg" in text):
        return "SVG"
    return next((kind for start, kind in STARTS.items() if head.startswith(start)), "")


def kind_of(path: Path, head: bytes) -> str:
    """Return the kind of picture of a file that begins with ``head``: what it holds, or else what its name says; or nothing."""
    held, named = kind_of_content(head), SUFFIXES.get(path.suffix.lower(), "")
    return named if not held or (held == "TIFF" and named in RAW) else held


def check_read(path: Path, head: bytes) -> None:
    """Check that a picture is not of a kind that is known and not read.

    Raises:
        InputError: it is.
    """
    kind = kind_of(path, head)
    if kind == "AVIF" and not reads_avif():
        raise InputError(f"{path}: an AVIF picture, which this Pillow does not read; pip install -U Pillow (11.3 or later)")
    if kind and kind not in READ:
        raise not_read(path, kind)


def check_no_preview(path: Path, tags: Mapping[int, object]) -> None:
    """Check that the first page of a TIFF, which has ``tags``, is no preview of a camera's raw picture.

    Raises:
        InputError: it is.
    """
    reduced = tags.get(NEW_SUBFILE_TYPE, 0)
    if DNG_VERSION in tags or (isinstance(reduced, int) and reduced & 1 and SUB_IFDS in tags):
        raise not_read(path, "DNG" if DNG_VERSION in tags else "a camera's raw file")


def not_read(path: Path, kind: str) -> InputError:
    """Return the error about a picture of a kind that is not read."""
    return InputError(f"{path}: is {kind}, which is not read; write it as PNG, JPEG or TIFF with {tool_of(kind)}")


def tool_of(kind: str) -> str:
    """Return the program that converts a kind."""
    return TOOLS.get(kind, "magick")


@cache
def reads_avif() -> bool:
    """Return whether this Pillow reads AVIF."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        return False
    return bool(AvifImagePlugin.SUPPORTED)


@cache
def writes_avif() -> bool:
    """Return whether this Pillow writes AVIF."""
    if not reads_avif():
        return False
    from PIL import _avif

    return any(map(_avif.encoder_codec_available, ("aom", "rav1e", "svt")))

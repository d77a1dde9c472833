"""Segments of JPEG files: EXIF, profile, comments, XMP and IPTC."""

from __future__ import annotations

import struct
from collections.abc import Sequence

LONGEST_SEGMENT = 65533  # bytes behind its length
FULL_COLOUR = 90  # from this quality on chroma is stored for every pixel, below for two by two
PROFILE_MARK = b"ICC_PROFILE\0"  # ICC.1:2022, B.4
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"  # XMP, part 3, 1.1.3
IPTC_MARK = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0"  # its resource without a name
COM = 0xFE
JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"  # its segment, of version 1.1 and square pixels


def segments_of(icc_profile: bytes | None, exif: bytes) -> list[bytes]:
    """Return the segments, to stand behind the header, that hold EXIF and a profile; one that is too long is left out."""
    segments = [segment(0xE1, exif)] if exif else []
    if icc_profile:
        size = LONGEST_SEGMENT - len(PROFILE_MARK) - 2
        pieces = [icc_profile[start : start + size] for start in range(0, len(icc_profile), size)]
        if len(pieces) < 256:  # their number is one byte
            segments += [
                segment(0xE2, PROFILE_MARK + bytes((number, len(pieces))) + piece) for number, piece in enumerate(pieces, start=1)
            ]
    return segments


def segments_beside(comments: Sequence[bytes], xmp: bytes, iptc: bytes) -> list[bytes]:
    """Return the segments that hold comments, XMP and IPTC; what is too long for one is left out, a comment is cut."""
    found = [segment(COM, comment[:LONGEST_SEGMENT]) for comment in comments]
    if xmp and holds_xmp(xmp):
        found.append(segment(0xE1, XMP_MARK + xmp))
    if iptc and holds_iptc(iptc):
        found.append(segment(0xED, IPTC_MARK + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)))
    return found


def holds_xmp(xmp: bytes) -> bool:
    """Return whether a JPEG holds so much XMP in one piece."""
    return len(XMP_MARK) + len(xmp) <= LONGEST_SEGMENT


def holds_iptc(iptc: bytes) -> bool:
    """Return whether a JPEG holds so much IPTC in one piece."""
    return len(IPTC_MARK) + len(iptc) + 5 <= LONGEST_SEGMENT


def segment(marker: int, data: bytes) -> bytes:
    """Return an application segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

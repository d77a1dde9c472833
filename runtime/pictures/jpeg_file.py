"""JPEG files from arrays, by OpenCV, with EXIF and profile in segments of their own."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cv2
import numpy as np

from sr_deploy.runtime.pictures.png_file import swap_
from sr_deploy.runtime.pictures.samples import Pixels

LONGEST_SEGMENT = 65533  # bytes behind its length
FULL_COLOUR = 90  # from this quality on chroma is stored for every pixel, below for two by two
PROFILE_MARK = b"ICC_PROFILE\0"  # ICC.1:2022, B.4
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"  # XMP, part 3, 1.1.3
IPTC_MARK = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0"  # its resource without a name
COM = 0xFE
HEADER_END = 2 + 18  # start of image, and JFIF with its marker and length


def jpeg_bytes(
    pixels: Pixels,
    quality: int,
    *,
    icc_profile: bytes | None = None,
    exif: bytes = b"",
    more: Sequence[bytes] = (),
    scratch: bool = False,
) -> bytes:
    """Return uint8 (h, w, 1 or 3) as the content of a JPEG file.

    With ``scratch``, ``pixels`` may be changed: a large picture is then not copied. ``exif`` begins with ``Exif`` and two zeros,
    ``more`` are segments behind it.

    Raises:
        MemoryError: there is too little.
    """
    ready = np.ascontiguousarray(pixels) if scratch or pixels.shape[2] == 1 else pixels.copy()
    swap_(ready)
    chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling_of(quality)]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *chroma, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    try:
        worked, content = cv2.imencode(".jpg", ready, options)
    except cv2.error as err:
        raise MemoryError from err  # the picture is a plain array of a size that a JPEG holds: nothing else can be wrong
    if not worked:
        raise MemoryError
    jpeg = content.data
    return b"".join((jpeg[:HEADER_END], *segments_of(icc_profile, exif), *more, jpeg[HEADER_END:]))


def sampling_of(quality: int) -> int:
    """Return OpenCV's name for how chroma is stored at a quality."""
    return cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if quality >= FULL_COLOUR else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420


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

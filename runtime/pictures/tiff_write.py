"""TIFF files from arrays of every depth and channel count, with pages, EXIF and profile: Deflate, and BigTIFF beyond 4 GB.

Pillow writes no 16-bit colour, no floats but grey ones and no grey with alpha of 16 bits; OpenCV no metadata. Numbers of tags are
those of TIFF 6.0; integers are stored as differences along the row (predictor 2).
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sr_deploy.runtime.pictures.colour import fitting_profile
from sr_deploy.runtime.pictures.samples import Pixels

STRIP = 2**18  # bytes before compression
LEVEL = 2  # of compression: 1 is fastest, 9 smallest
SHORT, LONG, UNDEFINED, LONG8 = 3, 4, 7, 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}  # bytes of a value, by type
CLASSIC_END = 2**32 - 2**20  # room for the directories
DIRECTORIES = (0x8769, 0x8825)  # tags that point to EXIF and GPS
PROFILE = 34675


@dataclass(frozen=True)
class Entry:
    """One tag: its type, how many values, and their bytes, little endian; or a directory of its own."""

    kind: int
    count: int
    raw: bytes
    inner: dict[int, Entry] | None = None


def tiff_parts(
    pages: Sequence[Pixels], *, icc_profile: bytes | None = None, exif: bytes = b"", big: bool | None = None
) -> list[bytes]:
    """Return the parts of a TIFF file, to be written one after the other.

    Args:
        pages: uint8, uint16 or float32 (h, w, c): grey, grey and alpha, RGB, RGB and alpha.
        icc_profile: of the pages whose samples are of its colour space.
        exif: a block that begins with ``Exif`` and two zeros and is little endian; goes to the first page.
        big: BigTIFF; ``None`` where it is needed.
    """
    strips = [pack_strips(page) for page in pages]
    total = sum(len(strip) for page in strips for strip in page)
    big = total > CLASSIC_END if big is None else big
    place = 16 if big else 8
    parts, tables = [b""], []
    for page, packed in zip(pages, strips, strict=True):
        starts = []
        for strip in packed:
            starts.append(place)
            parts += [strip, b"\0"] if len(strip) % 2 else [strip]
            place += len(strip) + len(strip) % 2
        profile = fitting_profile(icc_profile, page.shape[2])
        tables.append(page_tags(page, starts, [len(strip) for strip in packed], profile, big))
    if exif:
        tables[0] = {**exif_entries(exif), **tables[0]}
    first = place
    for number, table in enumerate(tables):
        made = directory_bytes(table, place, big, last=number + 1 == len(tables))
        parts.append(made)
        place += len(made)
    parts[0] = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    return parts


def pack_strips(pixels: Pixels) -> list[bytes]:
    """Return the strips of rows, compressed; ``strip_rows`` in each but the last."""
    rows = strip_rows(pixels)
    packed = []
    for top in range(0, len(pixels), rows):
        block = np.ascontiguousarray(pixels[top : top + rows])
        if block.dtype != np.float32:
            different = block.copy()
            np.subtract(block[:, 1:], block[:, :-1], out=different[:, 1:])
            block = different
        packed.append(zlib.compress((block if sys.byteorder == "little" else block.byteswap()).data, LEVEL))
    return packed


def strip_rows(pixels: Pixels) -> int:
    """Return how many rows a strip holds."""
    return max(1, min(len(pixels), STRIP // max(pixels[:1].nbytes, 1)))


def page_tags(
    pixels: Pixels, starts: Sequence[int], counts: Sequence[int], icc_profile: bytes | None, big: bool
) -> dict[int, Entry]:
    """Return the tags of a page (h, w, c) whose strips lie at ``starts``."""
    h, w, c = pixels.shape
    real = pixels.dtype == np.float32
    found = {
        256: numbers(LONG, w),
        257: numbers(LONG, h),
        258: numbers(SHORT, *[8 * pixels.dtype.itemsize] * c),
        259: numbers(SHORT, 8),  # Deflate
        262: numbers(SHORT, 1 if c <= 2 else 2),  # black is zero, or RGB
        273: numbers(LONG8 if big else LONG, *starts),
        277: numbers(SHORT, c),
        278: numbers(LONG, strip_rows(pixels)),
        279: numbers(LONG, *counts),
        284: numbers(SHORT, 1),  # samples of a pixel side by side
        317: numbers(SHORT, 1 if real else 2),
        339: numbers(SHORT, *[3 if real else 1] * c),
    }
    if c in (2, 4):
        found[338] = numbers(SHORT, 2)  # alpha, not multiplied in
    if icc_profile:
        found[PROFILE] = Entry(UNDEFINED, len(icc_profile), icc_profile)
    return found


def numbers(kind: int, *values: int) -> Entry:
    """Return an entry of integers."""
    return Entry(kind, len(values), struct.pack(f"<{len(values)}{ {SHORT: 'H', LONG: 'I', LONG8: 'Q'}[kind] }", *values))


def directory_bytes(table: dict[int, Entry], place: int, big: bool, *, last: bool = True) -> bytes:
    """Return a directory that will lie at ``place``, with its values and inner directories behind it.

    Unless it is the ``last``, another one follows right behind.
    """
    size, room = (20, 8) if big else (12, 4)
    head = struct.pack("<Q" if big else "<H", len(table))
    behind = place + len(head) + size * len(table) + room
    entries, values = [], b""
    for tag, entry in sorted(table.items()):
        kind, count, raw = entry.kind, entry.count, entry.raw
        if entry.inner is not None:
            kind, count, raw = LONG, 1, struct.pack("<I", behind + len(values))
            values += directory_bytes(entry.inner, behind + len(values), big)
        elif len(raw) > room:
            raw, held = struct.pack("<Q" if big else "<I", behind + len(values)), raw
            values += held + bytes(len(held) % 2)
        entries.append(struct.pack("<HHQ" if big else "<HHI", tag, kind, count) + raw.ljust(room, b"\0"))
    following = struct.pack("<Q" if big else "<I", 0 if last else behind + len(values))
    return head + b"".join(entries) + following + values


def exif_entries(exif: bytes) -> dict[int, Entry]:
    """Return what a little endian EXIF block holds."""
    block = exif[6:]
    return _entries(block, struct.unpack_from("<I", block, 4)[0])


def _entries(block: bytes, place: int) -> dict[int, Entry]:
    found = {}
    for number in range(struct.unpack_from("<H", block, place)[0]):
        tag, kind, count = struct.unpack_from("<HHI", block, place + 2 + 12 * number)
        at = place + 10 + 12 * number
        length = SIZES.get(kind, 1) * count
        if tag in DIRECTORIES:
            found[tag] = Entry(LONG, 1, b"", _entries(block, struct.unpack_from("<I", block, at)[0]))
            continue
        start = at if length <= 4 else struct.unpack_from("<I", block, at)[0]
        found[tag] = Entry(kind, count, block[start : start + length])
    return found

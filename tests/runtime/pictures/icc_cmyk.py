"""A CMYK profile that no formula gives: its cyan prints as dark green, its key as brown."""

from __future__ import annotations

import struct
from itertools import product

from PIL import Image, ImageCms


def cmyk_profile() -> bytes:
    """Return an ICC profile, version 2, with one table from CMYK to Lab (ICC.1:2001-04, 6.5.9: lut8Type)."""
    identity = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
    ramp = bytes(range(256))
    nodes = b"".join(bytes(lab_of(corner)) for corner in product((0, 1), repeat=4))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + nodes + ramp * 3
    table += bytes(-len(table) % 4)
    start = 128 + 4 + 12
    size = start + len(table)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", start, len(table)) + table


def lab_of(corner: tuple[int, ...]) -> tuple[int, int, int]:
    """Return Lab in 8 bits of full inks: each takes light away and adds a tint."""
    cyan, magenta, yellow, key = corner
    light = max(255 - 130 * cyan - 90 * magenta - 20 * yellow - 150 * key, 10)
    return light, 128 - 40 * cyan + 60 * magenta + 10 * key, 128 + 20 * cyan - 10 * magenta + 70 * yellow + 15 * key


def rgb_of(cmyk: tuple[int, ...]) -> tuple[int, ...]:
    """Return what littleCMS makes of one colour."""
    import io

    image = Image.new("CMYK", (1, 1), cmyk)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    made = ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert made is not None
    return tuple(made.getpixel((0, 0)))  # type: ignore[arg-type]

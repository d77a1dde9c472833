"""Picture files in and out: Pillow modes to plain arrays, and PNG files that appear whole or not at all."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sr_deploy.files import replacing
from sr_deploy.pictures import is_grey, open_picture
from sr_deploy.runtime.upscale import Pixels

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PROFILE_SPACES = {"grey": b"GRAY", "colour": b"RGB "}
PNG_MAX_SIDE = 2**31 - 1
OPENCV_MAX_SIDE = 1_000_000  # its libpng refuses more
HEADER_END = 8 + 25  # signature, and IHDR with its length, name and checksum
ROWS = 256  # converted at once
LEVEL = 2  # of compression: 1 is fastest, 9 smallest


@dataclass(frozen=True)
class Picture:
    """A decoded picture file."""

    pixels: Pixels  # uint8 (h, w, c): grey, grey+alpha, RGB or RGBA
    icc_profile: bytes | None = None  # of the same colour space as the pixels
    frames: int = 1  # in the file; the first one is here


def read_picture(path: Path) -> Picture:
    """Return the first frame of a picture file; alpha is kept wherever the file has it.

    Raises:
        InputError: see :func:`sr_deploy.pictures.open_picture`.
    """
    image = open_picture(path)
    pixels = pixels_of(image)
    space = PROFILE_SPACES["grey" if pixels.shape[2] <= 2 else "colour"]
    profile = image.info.get("icc_profile")
    fits = isinstance(profile, bytes) and profile[16:20] == space  # header field "colour space of data", ICC.1:2022 7.2.8
    return Picture(pixels, profile if fits else None, int(image.info.get("frames", 1)))


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of :func:`read_picture`."""
    return read_picture(path).pixels


def pixels_of(image: Image.Image) -> Pixels:
    """Return uint8 (h, w, c) in the fewest channels that hold the picture."""
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if is_grey(image) and transparent:
        # Through RGBA: Pillow resolves a transparency key of a grey picture only there.
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., (0, 3)])
    mode = "L" if is_grey(image) else "RGBA" if transparent else "RGB"
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def png_bytes(pixels: Pixels, *, icc_profile: bytes | None = None, scratch: bool = False) -> bytes | memoryview:
    """Return uint8 (h, w, c) as the content of a PNG file with its colour profile.

    With ``scratch``, ``pixels`` may be changed: a large picture is then not copied. No side may be longer than ``PNG_MAX_SIDE``.

    Raises:
        MemoryError: there is too little.
    """
    h, w, channels = pixels.shape
    if channels == 2 or max(h, w) > OPENCV_MAX_SIDE:  # OpenCV has no grey with alpha
        stream = BytesIO()
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, MODES[channels])
        image.save(stream, format="PNG", compress_level=LEVEL, icc_profile=icc_profile)
        return stream.getbuffer()
    ready = np.ascontiguousarray(pixels) if scratch or channels == 1 else pixels.copy()
    if channels >= 3:
        for top in range(0, h, ROWS):  # OpenCV's order is blue, green, red
            ready[top : top + ROWS, :, :3] = ready[top : top + ROWS, :, 2::-1].copy()
    # OpenCV encodes without holding the interpreter, so that other stages go on.
    try:
        worked, content = cv2.imencode(".png", ready, [cv2.IMWRITE_PNG_COMPRESSION, LEVEL])
    except cv2.error as err:
        raise MemoryError from err  # the picture is a plain array of a size that a PNG holds: nothing else can be wrong
    if not worked:
        raise MemoryError
    return with_profile(content.data, icc_profile) if icc_profile else content.data


def with_profile(png: memoryview, icc_profile: bytes) -> bytes:
    """Return a PNG with an embedded ICC profile: chunk iCCP behind the header (PNG, third edition, 11.3.2.3)."""
    body = b"iCCP" + b"ICC Profile\0\0" + zlib.compress(icc_profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"".join((png[:HEADER_END], chunk, png[HEADER_END:]))


def write_png(path: Path, pixels: Pixels, *, icc_profile: bytes | None = None) -> None:
    """Write uint8 (h, w, c) as a PNG with its colour profile, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(png_bytes(pixels, icc_profile=icc_profile))

"""PNG files of 8 and 16 bits from arrays: by OpenCV, which is fast and does not hold the interpreter; what it lacks, here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from sr_deploy.runtime.pictures.samples import Pixels

Chunks = Sequence[tuple[bytes, bytes]]
"""Names and contents of chunks."""

PNG_MAX_SIDE = 2**31 - 1
OPENCV_MAX_SIDE = 1_000_000  # its libpng refuses more
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = 8 + 25  # signature, and IHDR with its length, name and checksum
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
SUB = 1  # the filter: what a sample adds to the one before it
ROWS = 256  # converted at once
LEVEL = 2  # of compression: 1 is fastest, 9 smallest


def png_bytes(
    pixels: Pixels, *, icc_profile: bytes | None = None, chunks: Chunks = (), scratch: bool = False
) -> bytes | memoryview:
    """Return uint8 or uint16 (h, w, c) as the content of a PNG file with its colour profile and other ``chunks``.

    With ``scratch``, ``pixels`` may be changed: a large picture is then not copied. No side may be longer than ``PNG_MAX_SIDE``.

    Raises:
        MemoryError: there is too little.
    """
    if icc_profile:
        chunks = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)), *chunks]
    h, w, channels = pixels.shape
    if channels == 2 or max(h, w) > OPENCV_MAX_SIDE:  # OpenCV has no grey with alpha
        return _by_hand(pixels, chunks)
    ready = np.ascontiguousarray(pixels) if scratch or channels == 1 else pixels.copy()
    swap_(ready)
    try:
        worked, content = cv2.imencode(".png", ready, [cv2.IMWRITE_PNG_COMPRESSION, LEVEL])
    except cv2.error as err:
        raise MemoryError from err  # the picture is a plain array of a size that a PNG holds: nothing else can be wrong
    if not worked:
        raise MemoryError
    return with_chunks(content.data, chunks)


def with_chunks(png: memoryview, chunks: Chunks) -> bytes | memoryview:
    """Return a PNG with ``chunks`` right behind its header."""
    return b"".join((png[:HEADER_END], *(chunk(name, data) for name, data in chunks), png[HEADER_END:])) if chunks else png


def swap_(pixels: Pixels) -> None:
    """Exchange red and blue in place where there are colours, (h, w, c): OpenCV's order is blue, green, red."""
    if pixels.shape[2] >= 3:
        for top in range(0, len(pixels), ROWS):
            pixels[top : top + ROWS, :, :3] = pixels[top : top + ROWS, :, 2::-1].copy()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk (PNG, third edition, 5.3)."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _by_hand(pixels: Pixels, chunks: Chunks) -> bytes:
    h, w, channels = pixels.shape
    size = pixels.dtype.itemsize
    head = struct.pack(">IIBBBBB", w, h, 8 * size, COLOUR_TYPES[channels], 0, 0, 0)
    packer = zlib.compressobj(LEVEL)
    parts = [SIGNATURE, chunk(b"IHDR", head), *(chunk(name, data) for name, data in chunks)]
    for top in range(0, h, ROWS):
        block = np.ascontiguousarray(pixels[top : top + ROWS])
        octets = block.astype(f">u{size}", copy=False).view(np.uint8).reshape(len(block), w * channels * size)
        step = channels * size
        lines = np.empty((len(block), 1 + octets.shape[1]), np.uint8)
        lines[:, 0] = SUB
        lines[:, 1 : 1 + step] = octets[:, :step]
        np.subtract(octets[:, step:], octets[:, :-step], out=lines[:, 1 + step :])
        parts.append(chunk(b"IDAT", packer.compress(lines.data)))
    return b"".join((*parts, chunk(b"IDAT", packer.flush()), chunk(b"IEND", b"")))

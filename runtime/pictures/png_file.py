"""Chunks of PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

Chunks = Sequence[tuple[bytes, bytes]]
"""Names and contents of chunks."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = 8 + 25  # signature, and IHDR with its length, name and checksum


def with_chunks(png: memoryview, chunks: Chunks) -> bytes | memoryview:
    """Return a PNG with ``chunks`` right behind its header."""
    return b"".join((png[:HEADER_END], *(chunk(name, data) for name, data in chunks), png[HEADER_END:])) if chunks else png


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk (PNG, third edition, 5.3)."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))

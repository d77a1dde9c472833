"""Strips and tiles of TIFF files that need no decoder of others: stored as they are, or deflated; and differences undone.

Predictor 3 is that of Adobe's technical note 3 (2005).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

DEFLATE, OLD_DEFLATE = 8, 32946
PLAIN = (1, DEFLATE, OLD_DEFLATE)
CHUNK = 2**16  # bytes


def plain_samples(
    piece: bytes, compression: int, dtype: np.dtype[np.generic], shape: tuple[int, int, int], *, fill: bool
) -> NDArray[np.generic]:
    """Return the samples of a strip or tile, (h, w, c), in the machine's byte order.

    Args:
        piece: its bytes in the file.
        compression: one of ``PLAIN``.
        dtype: as it is stored.
        shape: of the samples.
        fill: take what is there of one that ends early or is damaged; the rest is zero.

    Raises:
        ValueError: it ends early or is damaged.
    """
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    raw = piece if compression == 1 else inflate(piece, size)
    if len(raw) < size:
        if not fill:
            raise ValueError(f"{len(raw)} of {size} bytes")
        raw = raw.ljust(size, b"\0")
    samples = np.frombuffer(raw, dtype, count=size // dtype.itemsize).reshape(shape)
    return samples.astype(dtype.newbyteorder("="), copy=False)


def inflate(packed: bytes, most: int) -> bytes:
    """Return what deflated bytes hold, as far as they are not damaged, and at most ``most`` bytes."""
    stream, parts, left = zlib.decompressobj(), [], most
    for start in range(0, len(packed), CHUNK):
        try:
            parts.append(stream.decompress(packed[start : start + CHUNK], left))
        except zlib.error:
            break
        left -= len(parts[-1])
        if left <= 0:
            break
    return b"".join(parts)


def undo_predictor(samples: NDArray[np.generic], predictor: int) -> NDArray[np.generic]:
    """Return samples from their differences along the row, (h, w, c): predictor 2 of integers, 3 of floats."""
    h, w, c = samples.shape
    if predictor == 2:
        words = samples.view(f"u{samples.dtype.itemsize}")
        return np.cumsum(words, axis=1, dtype=words.dtype).view(samples.dtype)
    size = samples.dtype.itemsize
    octets = np.ascontiguousarray(samples).view(np.uint8).reshape(h, w * size, c)
    planes = np.cumsum(octets, axis=1, dtype=np.uint8).reshape(h, size, w * c)
    values = np.ascontiguousarray(np.moveaxis(planes, 1, 2)).view(f">f{size}")
    return np.asarray(values.reshape(h, w, c), samples.dtype)

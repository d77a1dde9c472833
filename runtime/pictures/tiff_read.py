"""Deep samples of TIFF files: 16-bit integers and floats of every channel count, which Pillow cuts to 8 bits or does not know.

Strips and tiles in LZW or PackBits are handed to OpenCV (libtiff) inside small files made here, in which the
samples of a pixel stand side by side as pixels of one channel: so nothing is converted, no channel is refused, and no more than
``GROUP`` bytes are decoded at once. Numbers of tags and their values are those of TIFF 6.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.errors import InputError
from sr_deploy.pictures import ENDS_EARLY, Reading, check_declared, quiet
from sr_deploy.runtime.pictures.quiet_opencv import silence
from sr_deploy.runtime.pictures.tiff_codecs import PLAIN, plain_samples, undo_predictor

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
GROUP = 16 * 2**20
WIDEST = 32  # bytes of a pixel, four channels of 64 bits, that count as one against the limit of pixels
LZW, PACKBITS = 5, 32773
COMPRESSIONS = (*PLAIN, LZW, PACKBITS)
OPENCV_SIDE, OPENCV_PIXELS = 2**20, 2**30  # that it reads at most
DEEP = (16, 32, 64)
KINDS = {1: "u", 2: "i", 3: "f"}  # of sample format

Samples = NDArray[np.generic]
"""As they are stored, in the machine's byte order: (h, w, c)."""


@dataclass(frozen=True)
class Layout:
    """How one page of a TIFF file lies in it."""

    height: int
    width: int
    channels: int
    bits: int
    kind: str  # u, i or f
    photometric: int
    extra: tuple[int, ...]  # what the channels beyond colour are: 0 unknown, 1 alpha multiplied in, 2 alpha
    compression: int
    predictor: int
    separate: bool  # each channel for itself
    tile: tuple[int, int] | None  # (h, w)
    rows: int  # of a strip or tile
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the samples."""
        return np.dtype(f"{self.kind}{self.bits // 8}")

    @property
    def nbytes(self) -> int:
        """Bytes of the samples, those of channels that show nothing among them."""
        down, across = self.tile or (1, 1)  # tiles at the borders are whole
        return -(-self.height // down) * down * -(-self.width // across) * across * self.channels * self.bits // 8

    def check(self, path: Path, reading: Reading, *, area: int | None = None) -> None:
        """Check what the page declares, ``area`` pixels together with the pages before it.

        Raises:
            InputError: more pixels than the limit, or more bytes than so many pixels of ``WIDEST``.
        """
        check_declared(path, (self.width, self.height), reading, area=area)
        if self.nbytes > WIDEST * reading.max_pixels:
            what = f"{self.width}x{self.height} pixels of {self.channels} channels of {self.bits} bits, {self.nbytes} bytes"
            limit = f"the limit is {WIDEST * reading.max_pixels}"
            raise InputError(f"{path}: declares {what}, {limit}; leave channels out, or see sr-infer --max-pixels")


def is_tiff(stream: BinaryIO) -> bool:
    """Return whether the file begins as a TIFF does; it is read from its beginning again afterwards."""
    head = stream.read(4)
    stream.seek(0)
    return head in MAGIC


def pages_of(stream: BinaryIO) -> Iterator[ImageFileDirectory_v2]:
    """Yield the tags of each page of a TIFF file; a loop of pages ends."""
    header = stream.read(8)
    if header[2:4] in (b"+\0", b"\0+"):
        header += stream.read(8)
    seen: set[int] = set()
    following = ImageFileDirectory_v2(header).next
    while following and following not in seen:
        seen.add(following)
        tags = ImageFileDirectory_v2(header)
        stream.seek(following)
        with quiet():
            tags.load(stream)
        following = tags.next
        yield tags


def layout_of(tags: ImageFileDirectory_v2, depths: tuple[int, ...] = DEEP) -> Layout | None:
    """Return how a page lies in its file, where it is one for this module: of one of ``depths``, no palette and no CMYK."""
    bits = set(many(tags.get(258, 1)))
    kinds = {KINDS.get(number, "") for number in many(tags.get(339, 1))}
    channels, photometric = int(tags.get(277, 1)), int(tags.get(262, 1 if int(tags.get(277, 1)) < 3 else 2))
    known = bits <= {*depths} and len(bits) == 1 and len(kinds) == 1 and photometric in (0, 1, 2, 8)
    if not known or int(tags.get(259, 1)) not in COMPRESSIONS or int(tags.get(266, 1)) != 1 or not (256 in tags and 257 in tags):
        return None
    tiled = 322 in tags
    height, width = int(tags[257]), int(tags[256])
    tile = (int(tags[323]), int(tags[322])) if tiled else None
    return Layout(
        height=height,
        width=width,
        channels=channels,
        bits=bits.pop(),
        kind=kinds.pop(),
        photometric=photometric,
        extra=many(tags.get(338, ())),
        compression=int(tags.get(259, 1)),
        predictor=int(tags.get(317, 1)),
        separate=int(tags.get(284, 1)) == 2,
        tile=tile,
        rows=tile[0] if tile else min(int(tags.get(278, height)), height),
        offsets=many(tags.get(324 if tiled else 273, ())),
        counts=many(tags.get(325 if tiled else 279, ())),
    )


def many(value: object) -> tuple[int, ...]:
    """Return the numbers of a tag, of which Pillow gives one alone where there is one."""
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(str(value)),)


def tiff_samples(stream: BinaryIO, layout: Layout, path: Path, *, allow_truncated: bool = False) -> Samples:
    """Return the samples of a page, (h, w, c).

    Raises:
        InputError: the file ends early, or its samples cannot be decoded.
    """
    end = stream.seek(0, 2)
    planes = layout.channels if layout.separate else 1
    across = -(-layout.width // layout.tile[1]) if layout.tile else 1
    down = -(-layout.height // max(layout.rows, 1))
    pieces = list(zip(layout.offsets, layout.counts, strict=False))
    if len(pieces) < planes * across * down or min(layout.rows, layout.width, layout.height) < 1:
        raise InputError(f"{path}: cannot be decoded (its table of strips is incomplete); the file is of another kind or damaged")
    if not allow_truncated and ends_early(layout, end):
        raise InputError(f"{path}: cannot be decoded (truncated); {ENDS_EARLY}")
    inside = layout.channels // planes
    at_once = 1 if allow_truncated else max(1, GROUP // (layout.rows * layout.width * inside * layout.bits // 8))
    if layout.compression not in PLAIN:
        at_once = max(1, min(at_once, OPENCV_SIDE // layout.rows))
        _check_opencv(path, layout, (layout.rows * at_once, across * (layout.tile[1] if layout.tile else layout.width) * inside))
    found = np.zeros((layout.height, layout.width, layout.channels), layout.dtype)
    for plane in range(planes):
        for first in range(0, down, at_once):
            group = pieces[(plane * down + first) * across : (plane * down + min(first + at_once, down)) * across]
            rows = slice(first * layout.rows, min((first + at_once) * layout.rows, layout.height))
            target = found[rows, :, plane : plane + 1] if layout.separate else found[rows]
            try:
                target[...] = _decoded(stream, layout, group, target.shape, fill=allow_truncated)
            except ValueError as err:
                if not allow_truncated:
                    reason = "its samples are damaged"
                    raise InputError(f"{path}: cannot be decoded ({reason}); the file is of another kind or damaged") from err
    return found


def ends_early(layout: Layout, size: int) -> bool:
    """Return whether a file of ``size`` bytes lacks some of the page's samples."""
    return any(offset + count > size for offset, count in zip(layout.offsets, layout.counts, strict=False))


def _check_opencv(path: Path, layout: Layout, size: tuple[int, int]) -> None:
    if max(size) > OPENCV_SIDE or size[0] * size[1] > OPENCV_PIXELS:
        what = f"strips of {layout.rows} rows of {size[1]} samples in {'LZW' if layout.compression == LZW else 'PackBits'}"
        limits = f"the limits are {OPENCV_SIDE} of each and {OPENCV_PIXELS} samples"
        raise InputError(f"{path}: {what}, {limits}; store it without compression or with Deflate")


def _decoded(stream: BinaryIO, layout: Layout, group: list[tuple[int, int]], shape: tuple[int, ...], *, fill: bool) -> Samples:
    """Return the samples of some strips, or rows of tiles: (h, w, c)."""
    content = []
    for offset, count in group:
        stream.seek(offset)
        content.append(stream.read(count))
    stream.seek(0)
    order: Literal["<", ">"] = "<" if layout.predictor == 3 or stream.read(2) == b"II" else ">"
    height, width, channels = shape
    step = layout.tile[1] if layout.tile else width
    full = height, -(-width // step) * step, channels  # tiles at the right border are whole, and so are their differences
    samples = (
        _plain(layout, content, full, order, fill) if layout.compression in PLAIN else _by_opencv(layout, content, full, order)
    )
    if layout.predictor != 1:
        parts = [undo_predictor(samples[:, left : left + step], layout.predictor) for left in range(0, full[1], step)]
        samples = np.concatenate(parts, axis=1)
    return samples[:, :width]


def _plain(layout: Layout, content: list[bytes], shape: tuple[int, int, int], order: Literal["<", ">"], fill: bool) -> Samples:
    height, width, channels = shape
    dtype = layout.dtype.newbyteorder(order)
    step, parts = layout.tile[1] if layout.tile else width, []
    for top in range(0, height, layout.rows):
        rows = layout.rows if layout.tile else min(layout.rows, height - top)
        row, content = content[: width // step], content[width // step :]
        tiles = [plain_samples(piece, layout.compression, dtype, (rows, step, channels), fill=fill) for piece in row]
        parts.append(np.concatenate(tiles, axis=1) if len(tiles) > 1 else tiles[0])
    return (np.concatenate(parts) if len(parts) > 1 else parts[0])[:height]


def _by_opencv(layout: Layout, content: list[bytes], shape: tuple[int, int, int], order: str) -> Samples:
    with silence():
        array = np.frombuffer(_single_channel(layout, content, shape, order), np.uint8)
        found = cv2.imdecode(array, cv2.IMREAD_UNCHANGED)
    if found is None or found.size != shape[0] * shape[1] * shape[2] or found.dtype.itemsize != layout.bits // 8:
        raise ValueError("not decoded")
    return np.ascontiguousarray(found).view(layout.dtype).reshape(shape)


def _single_channel(layout: Layout, content: list[bytes], shape: tuple[int, ...], order: str) -> bytes:
    """Return a TIFF file of one channel, in which the samples of a pixel are pixels."""
    height, width, channels = shape
    tags = [(256, width * channels), (257, height), (258, layout.bits), (259, layout.compression), (262, 1), (277, 1)]
    tags += [(339, 1 if layout.bits <= 16 else 3)]
    if layout.tile:
        tags += [(322, layout.tile[1] * channels), (323, layout.tile[0])]
    else:
        tags += [(278, layout.rows)]
    head = 8 + 2 + 12 * (len(tags) + 2) + 4
    starts = np.cumsum([head + 8 * len(content), *map(len, content)])[:-1]
    entries = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags]
    for tag, values, place in ((0, starts, 0), (1, [len(part) for part in content], 4 * len(content))):
        number = (324, 325)[tag] if layout.tile else (273, 279)[tag]
        value = int(values[0]) if len(content) == 1 else head + place
        entries.append(struct.pack(order + "HHII", number, 4, len(content), value))
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    parts = [mark, struct.pack(order + "IH", 8, len(entries)), *entries, bytes(4)]
    tables = [struct.pack(f"{order}{len(content)}I", *map(int, values)) for values in (starts, list(map(len, content)))]
    return b"".join([*parts, *tables, *content])

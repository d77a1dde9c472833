"""TIFF files in layouts that no library at hand writes: any photometric, tiles, planes, byte order, extra samples."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """How the samples are laid out."""

    photometric: int = 1
    extra: int | None = None
    order: Literal["<", ">"] = "<"
    tile: tuple[int, int] | None = None
    planes: bool = False
    rows: int = 10**9
    bits: int | None = None
    more: tuple[tuple[int, int, tuple[int, ...]], ...] = ()


def pieces_of(values: NDArray[np.generic], shape: Shape) -> list[bytes]:
    """Return the strips or tiles."""
    parts = [values[..., c : c + 1] for c in range(values.shape[2])] if shape.planes else [values]
    found = []
    for part in parts:
        h, w, _ = part.shape
        down, across = shape.tile or (min(shape.rows, h), w)
        for top in range(0, h, down):
            for left in range(0, w, across):
                piece = part[top : top + down, left : left + across]
                if shape.tile:
                    piece = np.pad(piece, ((0, down - piece.shape[0]), (0, across - piece.shape[1]), (0, 0)))
                found.append(piece.astype(piece.dtype.newbyteorder(shape.order)).tobytes())
    return found


def odd_tiff(values: NDArray[np.generic], shape: Shape) -> bytes:
    """Return (h, w, c) as a TIFF file without compression."""
    h, w, c = values.shape
    pieces = pieces_of(values, shape)
    format_kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: list[tuple[int, int, tuple[int, ...]]] = [
        (256, 4, (w,)),
        (257, 4, (h,)),
        (258, 3, ((shape.bits or 8 * values.dtype.itemsize),) * c),
        (259, 3, (1,)),
        (262, 3, (shape.photometric,)),
        (277, 3, (c,)),
        (284, 3, (2 if shape.planes else 1,)),
        (339, 3, (format_kind,) * c),
        *shape.more,
    ]
    if shape.extra is not None:
        tags.append((338, 3, (shape.extra,)))
    if shape.tile:
        tags += [(322, 3, (shape.tile[1],)), (323, 3, (shape.tile[0],))]
    else:
        tags.append((278, 4, (min(shape.rows, h),)))
    numbers = (324, 325) if shape.tile else (273, 279)
    tags += [(numbers[0], 4, (0,) * len(pieces)), (numbers[1], 4, tuple(len(piece) for piece in pieces))]
    place = 8 + 2 + 12 * len(tags) + 4
    table, behind = b"", b""
    ends = place + sum(len(packed(shape, tag)) for tag in tags if len(packed(shape, tag)) > 4)
    starts = tuple(int(start) for start in np.cumsum([ends, *(len(piece) for piece in pieces)])[:-1])
    placed = [(number, kind, starts if number == numbers[0] else held) for number, kind, held in tags]
    for tag in sorted(placed):
        raw = packed(shape, tag)
        if len(raw) > 4:
            raw, behind = struct.pack(shape.order + "I", place + len(behind)), behind + raw
        table += struct.pack(shape.order + "HHI", tag[0], tag[1], len(tag[2])) + raw.ljust(4, b"\0")
    head = (b"II*\0" if shape.order == "<" else b"MM\0*") + struct.pack(shape.order + "I", 8)
    return head + struct.pack(shape.order + "H", len(tags)) + table + bytes(4) + behind + b"".join(pieces)


def packed(shape: Shape, tag: tuple[int, int, tuple[int, ...]]) -> bytes:
    """Return the values of a tag."""
    return struct.pack(f"{shape.order}{len(tag[2])}{'H' if tag[1] == 3 else 'I'}", *tag[2])

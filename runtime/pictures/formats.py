"""What formats of picture files hold: sides, depths, transparency, frames; and which one a result gets.

A result follows its input: its format, and its depth. A GIF becomes a PNG unless all frames are enlarged, and so does a BMP with
transparency, and an AVIF where Pillow writes none. What the chosen format cannot hold is refused before any
work, and the message names one that can.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_deploy.errors import InputError
from sr_deploy.picture_kinds import HEAD, kind_of_content, writes_avif
from sr_deploy.pictures import Reading, source
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.samples import Pixels


@dataclass(frozen=True)
class Format:
    """What a kind of file holds, as it is written here."""

    suffixes: tuple[str, ...]  # the first is the usual one
    max_side: int  # pixels
    alpha: bool = True
    floats: bool = False
    animation: bool = False
    pages: bool = False
    quality: bool = False
    max_bytes: int = 2**62  # of its pixels


VIPS_MAX_SIDE = 100_000_000  # beyond, libvips 8.18 writes files without a picture
FORMATS = {
    "png": Format((".png", ".apng"), VIPS_MAX_SIDE, animation=True),
    "jpeg": Format(
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".jps", ".mpo"), 65_500, alpha=False, quality=True
    ),  # libjpeg's limit; the format's: 65535
    "webp": Format((".webp",), 16_383, animation=True, quality=True),
    "tiff": Format((".tif", ".tiff"), VIPS_MAX_SIDE, floats=True, pages=True),
    "bmp": Format((".bmp", ".dib"), 2**31 - 1, alpha=False, max_bytes=2**32 - 2**16),
    "gif": Format((".gif",), 65_535, animation=True),
    "avif": Format((".avif", ".avifs"), 32_768, animation=True, quality=True, max_bytes=3 * 2**28),  # what libavif reads
}


@dataclass(frozen=True)
class Writing:
    """How results are written."""

    format: str | None = None  # the input's
    quality: int | None = None  # of JPEG and lossy WebP, 1 to 100

    def __post_init__(self) -> None:
        """Raise ``InputError`` where the two do not go together."""
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InputError(f"--quality {self.quality}: outside 1 to 100; 95 is the default")
        if self.quality is not None and self.format is not None and not FORMATS[self.format].quality:
            lossless = f"{self.format} is stored without loss"
            raise InputError(f"--quality {self.quality}: {lossless}; leave it out, or use --format jpeg, webp or avif")
        if self.format == "avif" and not writes_avif():
            raise InputError("--format avif: this Pillow writes no AVIF; use --format webp, or pip install -U Pillow")


FOLLOWING = Writing()


def format_of_name(name: Path) -> str | None:
    """Return the format that a suffix stands for."""
    return next((key for key, kind in FORMATS.items() if name.suffix.lower() in kind.suffixes), None)


def choose_format(path: Path, writing: Writing, reading: Reading) -> str:
    """Return the format of a picture's result; the suffix speaks for what is no picture."""
    if writing.format is not None:
        return writing.format
    try:
        with source(path) as stream:
            start = stream.read(HEAD)
    except (OSError, InputError):  # it is told when the picture is read
        start = b""
    return format_of_result(start, path, writing, reading)


def format_of_result(start: bytes, path: Path, writing: Writing, reading: Reading) -> str:
    """Return the format of a picture's result from the first bytes of the picture's file, ``HEAD`` of them."""
    if writing.format is not None:
        return writing.format
    kind: str | None = kind_of_content(start).lower()
    kind = kind if kind in FORMATS else None
    kind = "png" if kind == "avif" and not writes_avif() else kind
    kind = "png" if kind == "bmp" and has_alpha(start) else kind
    kind = kind or format_of_name(path) or "png"
    return "png" if kind == "gif" and not reading.frames else kind


def has_alpha(head: bytes) -> bool:
    """Return whether the first ``HEAD`` bytes of a BMP name an alpha channel: 32 bits in fields, one of them alpha's."""
    size, bits, compression = (int.from_bytes(head[a:b], "little") for a, b in ((14, 18), (28, 30), (30, 34)))
    return size >= 56 and bits == 32 and compression == 3 and any(head[66:70])


def result_name(path: Path, scale: int, kind: str) -> str:
    """Return ``NAME_x2.SUFFIX``, the suffix that of the picture where it stands for the format of its result."""
    suffix = path.suffix if format_of_name(path) == kind else FORMATS[kind].suffixes[0]
    return f"{path.stem}_x{scale}{suffix}"


def check_holds(kind: str, picture: Picture, scale: int, path: Path) -> None:
    """Check that a format holds the result for a picture.

    Raises:
        InputError: it does not; the message names one that does.
    """
    lacking = lacks(kind, picture, scale)
    if lacking:
        able = next((name for name in ("png", "tiff", "webp") if not lacks(name, picture, scale)), None)
        advice = f"use --format {able}, or a name that ends in {FORMATS[able].suffixes[0]}" if able else "cut it into parts"
        raise InputError(f"{path}: {lacking}, which {kind} cannot hold; {advice}")


def lacks(kind: str, picture: Picture, scale: int) -> str:
    """Return in words what of the result a format does not hold; nothing where it holds all."""
    found, frames = FORMATS[kind], picture.all_frames
    lacking = next(filter(None, (frame_lacks(found, pixels, scale) for pixels in frames)), "")
    if len(frames) > 1 and not lacking:
        animated = bool(picture.rest.durations_ms)
        if not (found.animation if animated else found.pages):
            return f"an animation of {len(frames)} frames" if animated else f"{len(frames)} pages"
    return lacking


def frame_lacks(found: Format, pixels: Pixels, scale: int) -> str:
    """Return in words what of one enlarged frame, made from (h, w, c), a format does not hold."""
    h, w, channels = pixels.shape
    size = f"{w * scale}x{h * scale} pixels"
    if max(h, w) * scale > found.max_side or w * h * scale * scale * min(channels, 3) > found.max_bytes:
        return size
    if channels in (2, 4) and not found.alpha:
        return "transparency"
    if pixels.dtype == np.float32 and not found.floats:
        colours = pixels[..., : 1 if channels <= 2 else 3]
        least, largest = float(colours.min()), float(colours.max())
        if least < 0.0 or largest > 1.0:
            return f"float samples from {least:g} to {largest:g}"
    return ""

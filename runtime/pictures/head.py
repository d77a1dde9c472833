"""What a picture file says of itself before its pixels are read: enough to know the memory that it needs."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sr_deploy.pictures import ORIENTATION, TURNED, Reading, exif_of, frame_count, is_deep, stored_size
from sr_deploy.planes import GREY_MODES
from sr_deploy.runtime.pictures.beside import (
    CREDENTIALS_CHUNK,
    IPTC_TAG,
    MOST_TEXT,
    TEXT_CHUNKS,
    XMP_TAG,
    beside_of,
    beside_of_png,
    beside_of_tags,
    is_deep_avif,
)
from sr_deploy.runtime.pictures.colour import TRANSPARENT, fitting_profile, misfit_of
from sr_deploy.runtime.pictures.deep import SEPARATE_ALPHA, shown
from sr_deploy.runtime.pictures.jpeg_quality import jpeg_quality
from sr_deploy.runtime.pictures.metadata import colour_chunks, tags_from
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.pictures.tiff_read import LAB, Layout

PROFILE_TAG = 34675  # of TIFF
EXTRA_SAMPLES = 338  # TIFF 6.0, section 18
BY_ROWS = frozenset({"png", "jpeg", "tiff"})
HEAD_BYTES = 2**14  # of an AVIF, its properties among them
MOST_CHUNKS = 2**24  # bytes before a PNG's pixels
EXIF_SOURCES = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})  # what Pillow reads EXIF from


@dataclass(frozen=True)
class Head:
    """A picture file's header."""

    path: Path
    picture: Picture  # as it will be when it is read, but for the values of the pixels, which take no memory
    mode: str  # as Pillow calls it
    orientation: int  # EXIF's, 1 to 8
    plain: bool  # it can be read by rows, to the same samples
    cmyk_profile: bytes | None = None
    deep: bool = False  # more than 8 bits a sample, as Pillow finds it
    stored_bytes: int = 0  # of the samples in a deep TIFF, those of channels that show nothing among them
    layout: Layout | None = None  # of a deep TIFF

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the upright picture."""
        h, w, c = self.picture.pixels.shape
        return h, w, c

    @property
    def stored(self) -> tuple[int, int]:
        """(h, w) in the file, before the orientation is applied."""
        h, w, _ = self.shape
        return (w, h) if self.orientation in TURNED else (h, w)

    @property
    def nbytes(self) -> int:
        """Bytes of the samples of all frames that are to be read, while they are read."""
        return max(self.picture.pixels.nbytes * (1 + len(self.picture.rest.pixels)), self.stored_bytes)


def tiff_head(stream: BinaryIO, tags: ImageFileDirectory_v2, layout: Layout, path: Path, reading: Reading) -> Head:
    """Return the head of a TIFF whose samples are read here and not by Pillow; of its first page.

    Raises:
        InputError: over a limit of ``reading``.
    """
    layout.check(path, reading)
    (h, w, channels), dtype = shown(layout)
    exif = Image.Exif()
    stream.seek(0)
    with suppress(Exception):  # whatever Pillow's parser meets: EXIF that cannot be read is no reason to refuse the picture
        exif.load_from_fp(stream)
    mode, raw = "LAB" if layout.photometric == LAB else "", tags.get(PROFILE_TAG)
    profile = fitting_profile(raw, channels, mode)
    beside = beside_of_tags(tags.get(XMP_TAG), tags.get(IPTC_TAG))
    beside = replace(beside, lost=beside.lost + misfit_of(raw, channels, mode))
    picture = Picture(blank((h, w), channels, dtype), profile, 1, "tiff", tags_from(exif), beside=beside)
    mode = f"{layout.channels} x {layout.dtype}"
    head = Head(path, picture, mode, 1, not reading.frames, stored_bytes=layout.nbytes, layout=layout)
    return _upright(head, tags.get(ORIENTATION))


def image_head(stream: BinaryIO, image: Image.Image, path: Path, reading: Reading) -> Head:
    """Return the head of a picture that Pillow has opened in ``stream``."""
    kind = "jpeg" if image.format == "MPO" else str(image.format).lower()
    transparent = image.mode in TRANSPARENT or "transparency" in image.info
    deep = is_deep(image) and image.mode != "CMYK"
    grey = image.mode in (*GREY_MODES, "La") or image.mode == "F" or image.mode.startswith("I")
    grey = grey or (deep and "LA;16B" in str(getattr(image, "tile", "")))  # Pillow would make RGBA of a PNG's grey and alpha
    pixels = blank(stored_size(image)[::-1], (1 if grey else 3) + transparent, np.dtype(np.uint16 if deep else np.uint8))
    frames = frame_count(image)
    taken = frames if reading.frames else 1
    content, chunks = png_parts(stream) if kind == "png" else (None, ())
    chunks, beside = beside_of_png(chunks) if kind == "png" else ((), beside_of(image))
    if content is not None:
        image.info.setdefault("exif", content)
    if kind == "avif" and is_deep_avif(stream_head(stream)):
        beside = replace(beside, lost=(*beside.lost, "bits beyond 8 of a sample"))
    # Pillow keeps what it finds: that of a PNG may lie behind its pixels, in text that is not read yet.
    exif = exif_of(image) if kind != "png" or not EXIF_SOURCES.isdisjoint(image.info) else Image.Exif()
    profile = image.info.get("icc_profile")
    picture = Picture(
        pixels,
        fitting_profile(profile, pixels.shape[2], image.mode),
        frames,
        kind,
        tags_from(exif),
        chunks,
        lossless=kind not in ("jpeg", "webp", "avif") or (kind == "webp" and lossless_webp(stream)),
        jpeg_quality=jpeg_quality(image),
        beside=replace(beside, lost=beside.lost + misfit_of(profile, pixels.shape[2], image.mode)),
    )
    plain = kind in BY_ROWS and taken == 1 and _samples_agree(image, deep=deep, transparent=transparent)
    own = profile if image.mode == "CMYK" and isinstance(profile, bytes) else None
    head = Head(path, picture, image.mode, 1, plain, own, deep=deep)
    return _upright(head, exif.get(ORIENTATION), frames=taken)


def _samples_agree(image: Image.Image, *, deep: bool, transparent: bool) -> bool:
    """Return whether libvips reads a picture's samples as Pillow does: measured for these modes."""
    if deep:
        return image.format == "PNG"
    if image.format == "TIFF" and transparent:
        extra = getattr(image, "tag_v2", {}).get(EXTRA_SAMPLES)
        return extra in (SEPARATE_ALPHA, (SEPARATE_ALPHA,))  # others are multiplied into the colours
    return image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")


def _upright(head: Head, turn: object, *, frames: int = 1) -> Head:
    """Return the head with an orientation and more frames of the same size."""
    orientation = turn if isinstance(turn, int) and turn in range(1, 9) else 1
    pixels = head.picture.pixels
    pixels = pixels.swapaxes(0, 1) if orientation in TURNED else pixels
    rest = Frames((pixels,) * (frames - 1), (0,) * frames if head.picture.format != "tiff" else ())
    return replace(head, orientation=orientation, picture=replace(head.picture, pixels=pixels, rest=rest))


def blank(size: tuple[int, int], channels: int, dtype: np.dtype[np.generic]) -> Pixels:
    """Return (h, w, channels) of one value that takes the memory of one sample; ``nbytes`` is what a picture would take."""
    found: Pixels = np.broadcast_to(np.zeros((), dtype), (*size, channels))
    return found


def png_parts(stream: BinaryIO) -> tuple[bytes | None, tuple[tuple[bytes, bytes], ...]]:
    """Return what the eXIf chunk of a PNG holds, wherever it lies, and the chunks about colour and with text.

    Pixels are skipped, not read.

    ``stream`` is left where it was.
    """
    exif, before, at, texts = None, 0, stream.tell(), []
    place = stream.seek(8)
    while len(start := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        if name == b"eXIf":
            exif = stream.read(length)
        elif name in (*TEXT_CHUNKS, CREDENTIALS_CHUNK) and len(data := stream.read(min(length, MOST_TEXT + 1))) in (
            length,
            MOST_TEXT + 1,
        ):
            texts.append((name, data))
        if name == b"IDAT" and not before:
            before = place
        place = stream.seek(place + length + 12)
    stream.seek(0)
    chunks = colour_chunks(stream.read(min(before, MOST_CHUNKS)))
    stream.seek(at)
    return exif, (*chunks, *texts)


def stream_head(stream: BinaryIO) -> bytes:
    """Return the first bytes of a file; ``stream`` is left where it was."""
    at = stream.tell()
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(at)
    return head


def lossless_webp(stream: BinaryIO) -> bool:
    """Return whether a WebP is stored without loss, all of it or its first frame; ``stream`` is left where it was."""
    at, found = stream.tell(), False
    stream.seek(12)  # behind RIFF, its size and WEBP
    while len(head := stream.read(8)) == 8:
        if head[:4] == b"ANMF":  # a frame: its place, size and duration, then chunks of its own
            stream.seek(16, 1)
        elif head[:4] in (b"VP8L", b"VP8 ", b"ALPH"):
            found = head[:4] == b"VP8L"
            break
        else:
            size = int.from_bytes(head[4:], "little")
            stream.seek(size + size % 2, 1)
    stream.seek(at)
    return found

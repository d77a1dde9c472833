"""PNG, JPEG and TIFF files by libvips: of a whole picture, or of one whose rows are still being made."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sr_deploy.runtime.pictures.beside import comment_chunks, comments_of, xmp_chunks
from sr_deploy.runtime.pictures.jpeg_file import JFIF, LONGEST_SEGMENT, segments_beside, segments_of
from sr_deploy.runtime.pictures.libvips import libvips
from sr_deploy.runtime.pictures.metadata import PREFIX
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.png_file import HEADER_END, Chunks, chunk
from sr_deploy.runtime.pictures.samples import Pixels

if TYPE_CHECKING:
    import pyvips

QUALITY = 95  # of JPEG and lossy WebP where nothing is said
LEVEL = 2  # of compression: 1 is fastest, 9 smallest
STRIP = 2**18  # bytes of a TIFF's strip before compression
MOST_ROWS = 2**15  # of a strip, that libvips takes
CLASSIC_END = 2**32 - 2**20  # a TIFF beyond is a BigTIFF
MM = 25.4  # in an inch
USUAL_DPI = 72.0  # of a TIFF, which has to have a resolution, where none is known
RESOLUTION_BYTES = 21  # of a PNG's chunk
SPACES = {"u1": ("b-w", "srgb"), "u2": ("grey16", "rgb16"), "f4": ("b-w", "scrgb")}  # libvips's names, grey and colour


@dataclass(frozen=True)
class Carried:
    """What the file of a result holds besides pixels, and how it is encoded."""

    icc_profile: bytes | None = None  # of the same colour space as the pixels
    exif: bytes = b""  # of the result, with its prefix
    chunks: Chunks = ()  # of a PNG
    segments: Sequence[bytes] = ()  # of a JPEG
    quality: int = QUALITY  # of JPEG, 1 to 100
    dpi: tuple[float, float] = (USUAL_DPI, USUAL_DPI)  # of a TIFF
    big: bool = False  # a BigTIFF, whatever its size


def carried_by(picture: Picture, kind: str, size: tuple[int, int], quality: int | None) -> Carried:
    """Return what goes along from a picture into a ``png``, ``jpeg`` or ``tiff`` of its result, (width, height)."""
    longest = LONGEST_SEGMENT if kind == "jpeg" else None
    exif = picture.tags.written(size, longest=longest) if picture.tags is not None and kind != "tiff" else b""
    beside, dpi = picture.beside, picture.tags.dpi if picture.tags is not None else None
    own = picture.chunks if picture.format == "png" else (*xmp_chunks(beside.xmp), *comment_chunks(beside))
    more = segments_beside(comments_of(beside, picture.chunks), beside.xmp, beside.iptc) if kind == "jpeg" else ()
    return Carried(picture.icc_profile, exif, own, more, quality or QUALITY, dpi or (USUAL_DPI, USUAL_DPI))


class Room:
    """A file in memory: threads of libvips write it, and what Python reserves in another thread is hardly ever given back."""

    def __init__(self, most: int) -> None:
        """Reserve ``most`` bytes, of which those that are written are taken.

        Raises:
            MemoryError: there are too few.
        """
        try:
            self.room, self.end = mmap.mmap(-1, most), 0
        except OSError as err:
            raise MemoryError from err

    def write(self, content: bytes) -> None:
        """Write at the position."""
        self.room.write(content)
        self.end = max(self.end, self.room.tell())

    def read(self, count: int) -> bytes:
        """Return at most ``count`` bytes."""
        return self.room.read(max(min(count, self.end - self.room.tell()), 0))

    def seek(self, offset: int, whence: int) -> int:
        """Set and return the position."""
        self.room.seek(offset + (0, self.room.tell(), self.end)[whence])
        return self.room.tell()

    @property
    def content(self) -> memoryview:
        """What was written."""
        return memoryview(self.room)[: self.end]


class Output:
    """A stream that libvips writes to; ``inserted`` comes behind its first ``at`` bytes, all of which are written at once."""

    def __init__(self, stream: BinaryIO | Room, at: int = 0, inserted: bytes = b"") -> None:
        self.stream, self.at, self.inserted = stream, at, inserted
        self.error: OSError | ValueError | None = None  # that ended the writing

    def write(self, content: memoryview) -> int:
        """Write and return how many bytes that were, -1 where it fails."""
        data = bytes(content)
        if self.at:
            behind = data[self.at :]
            behind = behind[RESOLUTION_BYTES:] if behind[4:8] == b"pHYs" else behind  # libvips's own: none is known
            data, self.at = data[: self.at] + self.inserted + behind, 0
        try:
            self.stream.write(data)
        except (OSError, ValueError) as err:  # it is told where the rows come from
            self.error = err
            return -1
        return len(content)


def file_of(pixels: Pixels, kind: str, carried: Carried) -> memoryview:
    """Return (h, w, c) as the content of a ``png``, ``jpeg`` or ``tiff`` that holds such samples.

    Raises:
        MemoryError: there is too little.
    """
    beside = 2**20 + len(carried.icc_profile or b"") + len(carried.exif) + 16 * len(pixels)
    beside += sum(map(len, carried.segments)) + sum(12 + len(data) for _, data in carried.chunks)
    room = Room(int(pixels.nbytes * (2 if kind == "jpeg" else 1.05)) + beside)  # more than is made of noise
    save(image_of(pixels), kind, room, carried, optimize=True)
    return room.content


def save(image: pyvips.Image, kind: str, stream: BinaryIO | Room, carried: Carried, *, optimize: bool = False) -> None:
    """Write a picture of libvips as a file.

    Args:
        image: uint8, uint16 or float32 samples that the format holds.
        kind: ``png``, ``jpeg`` or ``tiff``.
        stream: open for writing; for a TIFF also for reading, and seekable.
        carried: what goes along.
        optimize: make a JPEG's own Huffman tables, for which it is held in memory.

    Raises:
        OSError: the stream cannot be written.
        MemoryError: there is too little; or the picture gives no more rows.
    """
    vips = libvips()
    target = vips.TargetCustom()
    if kind == "tiff":
        output = Output(stream)
        target.on_read(stream.read)
        target.on_seek(stream.seek)
        image = with_tags(image, carried)
        options = tiff_options(image, big=carried.big)
    elif kind == "png":
        output = Output(stream, HEADER_END, b"".join(chunk(*each) for each in chunks_of(carried)))
        options = {"compression": LEVEL, "filter": "all", "keep": "none"}
    else:
        output = Output(stream, 2, b"".join((JFIF, *segments_of(carried.icc_profile, carried.exif), *carried.segments)))
        options = {"Q": carried.quality, "optimize_coding": optimize, "keep": "none"}
    target.on_write(output.write)
    try:
        getattr(image, f"{kind}save_target")(target, **options)
    except vips.Error as err:
        raise (
            output.error or MemoryError()
        ) from err  # a plain picture of a size that the format holds: nothing else can be wrong


def image_of(pixels: Pixels) -> pyvips.Image:
    """Return (h, w, c) as a picture of libvips that shares its memory."""
    return in_space(libvips().Image.new_from_array(np.ascontiguousarray(pixels)), pixels.dtype)


def in_space(image: pyvips.Image, dtype: np.dtype[np.generic]) -> pyvips.Image:
    """Return a picture of libvips of 1 to 4 channels that are grey or RGB, with or without alpha."""
    return image.copy(interpretation=SPACES[dtype.str[1:]][image.bands >= 3])


def with_tags(image: pyvips.Image, carried: Carried) -> pyvips.Image:
    """Return a picture of libvips with a profile and a resolution."""
    across, down = carried.dpi
    found = image.copy(xres=across / MM, yres=down / MM)
    if carried.icc_profile:
        found.set_type(libvips().GValue.blob_type, "icc-profile-data", carried.icc_profile)
    return found


def is_big(nbytes: int) -> bool:
    """Return whether so many bytes of samples may be too many for a TIFF that is no BigTIFF."""
    return nbytes * 1.01 > CLASSIC_END  # Deflate makes noise a little larger than it was


def tiff_options(image: pyvips.Image, *, big: bool) -> dict[str, object]:
    """Return how a TIFF is written: Deflate, differences along rows."""
    row = image.width * image.bands * {"uchar": 1, "ushort": 2}.get(image.format, 4)
    return {
        "compression": "deflate",
        "predictor": "float" if image.format == "float" else "horizontal",
        "level": LEVEL,
        "bigtiff": big or is_big(row * image.height),
        "tile_height": max(2, min(STRIP // row, MOST_ROWS) // 2 * 2),  # odd, libvips 8.18 loses a last strip of one row
        "keep": "icc",
        "resunit": "inch",
    }


def chunks_of(carried: Carried) -> Sequence[tuple[bytes, bytes]]:
    """Return the chunks of a PNG that hold profile, EXIF and colours."""
    profile = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(carried.icc_profile))] if carried.icc_profile else []
    return [*profile, *carried.chunks, *([(b"eXIf", carried.exif[len(PREFIX) :])] if carried.exif else [])]

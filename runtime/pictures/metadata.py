"""What stands beside the pixels and goes along: EXIF, made true for the result, and the PNG chunks that say what colours mean.

Left behind is what described the file and not the picture (strips, compression, thumbnails), and XMP, which repeats EXIF with
the old orientation and size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from sr_deploy.pictures import ORIENTATION
from sr_deploy.runtime.pictures.png_file import SIGNATURE

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
WIDTH, HEIGHT, PIXEL_WIDTH, PIXEL_HEIGHT, MAKER_NOTE = 256, 257, 0xA002, 0xA003, 0x927C
DESCRIPTION = 270
STRUCTURES = ("<?xml", "<OME", "ImageJ=", '{"shape"')  # of OME-TIFF, ImageJ and tifffile
X_RESOLUTION, Y_RESOLUTION, UNIT = 282, 283, 296
KEPT = frozenset(
    {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, *range(40091, 40096)}
)  # of the first directory: description, make, model, resolution, software, times, people, rights
PREFIX = b"Exif\0\0"
COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")  # PNG, third edition, 11.3.2; the profile is kept apart

Directory = Mapping[int, object]


@dataclass(frozen=True)
class Tags:
    """EXIF of a picture, cleaned: what each directory holds."""

    first: Directory
    exif: Directory
    gps: Directory

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels an inch across and down, where they are known."""
        try:
            across, down = (float(str(self.first[tag])) for tag in (X_RESOLUTION, Y_RESOLUTION))
        except (KeyError, ValueError, ArithmeticError):
            return None
        unit = {2: 1.0, 3: 2.54}.get(int(str(self.first.get(UNIT, 2))))
        return (across * unit, down * unit) if unit and min(across, down) > 0.0 and max(across, down) < 1e6 else None

    @property
    def beyond_resolution(self) -> bool:
        """Whether there is more than resolution and orientation."""
        return bool(self.exif or self.gps or set(self.first) - {X_RESOLUTION, Y_RESOLUTION, UNIT})

    def written(self, size: tuple[int, int], *, longest: int | None = None) -> bytes:
        """Return EXIF for an upright picture of (width, height), ``Exif`` and two zeros before it.

        The maker's note, then all, is left out where it would be longer than ``longest`` bytes.
        """
        made = self._made(size, self.exif)
        if longest is not None and len(made) > longest:
            made = self._made(size, {tag: value for tag, value in self.exif.items() if tag != MAKER_NOTE})
        return b"" if longest is not None and len(made) > longest else made

    def _made(self, size: tuple[int, int], exif: Directory) -> bytes:
        block = Image.Exif()
        block.endian = "<"
        for tag, value in self.first.items():
            block[tag] = value
        block[ORIENTATION] = 1
        if exif:
            block[EXIF_IFD] = {**exif, PIXEL_WIDTH: size[0], PIXEL_HEIGHT: size[1]}
        if self.gps:
            block[GPS_IFD] = dict(self.gps)
        made = block.tobytes()
        return made if made.startswith(PREFIX) else PREFIX + made


def tags_from(exif: Image.Exif) -> Tags | None:
    """Return what of a file's EXIF goes along; ``None`` where there is nothing. Damaged tags are left out."""
    try:
        kept = {tag: value for tag, value in exif.items() if tag in KEPT and not is_structure(tag, value)}
        first = {tag: value for tag, value in kept.items() if writable(tag, value)}
        inner = {tag: value for tag, value in exif.get_ifd(EXIF_IFD).items() if tag != INTEROP_IFD and writable(tag, value)}
        gps = {tag: value for tag, value in exif.get_ifd(GPS_IFD).items() if writable(tag, value)}
        turned = ORIENTATION in exif
    except Exception:  # Pillow's parser raises whatever it met: EXIF that cannot be read is no reason to refuse the picture
        return None
    return Tags(first, inner, gps) if first or inner or gps or turned else None


def is_structure(tag: int, value: object) -> bool:
    """Return whether a description is a program's, of the sizes and the order of a file's pages: wrong for a result."""
    return tag == DESCRIPTION and str(value).lstrip("\ufeff \n").startswith(STRUCTURES)


def writable(tag: int, value: object) -> bool:
    """Return whether Pillow can write a tag."""
    block = Image.Exif()
    block[tag] = value
    try:
        block.tobytes()
    except Exception:  # as above: it raises whatever a value makes its encoder raise
        return False
    return True


def png_chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and data of each chunk of a PNG, the last one perhaps cut off."""
    view, place = memoryview(content), len(SIGNATURE)
    while place + 8 <= len(content):
        length = int.from_bytes(view[place : place + 4], "big")
        yield bytes(view[place + 4 : place + 8]), view[place + 8 : place + 8 + length]
        place += length + 12


def colour_chunks(content: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that say what its colours are, in their order."""
    found = []
    for name, data in png_chunks(content):
        if name == b"IDAT":
            break
        if name in COLOUR_CHUNKS:
            found.append((name, bytes(data)))
    return tuple(found)

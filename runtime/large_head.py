"""What a picture file says of itself before its pixels are read: enough to know the memory that it needs."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from sr_deploy.pictures import TURNED, opened

EXTRA_SAMPLES, UNASSOCIATED_ALPHA = 338, 2  # TIFF 6.0, section 18
PROFILE_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}  # by channels


@dataclass(frozen=True)
class Head:
    """A picture file's header."""

    path: Path
    format: str  # as Pillow calls it
    mode: str  # as Pillow calls it
    stored: tuple[int, int]  # (h, w) in the file, before its orientation is applied
    channels: int  # 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    depth: int  # bytes of a sample
    orientation: int  # EXIF's, 1 to 8
    plain: bool  # rows of it are samples as they are meant
    icc_profile: bytes | None  # of the colour space of the pixels
    exif: bytes | None  # without the orientation
    frames: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the upright picture."""
        height, width = self.stored[::-1] if self.orientation in TURNED else self.stored
        return height, width, self.channels

    @property
    def nbytes(self) -> int:
        """Bytes of its samples."""
        return self.stored[0] * self.stored[1] * self.channels * self.depth


def head_of(path: Path) -> Head:
    """Return what a picture file's header says.

    Raises:
        InputError: see :func:`sr_deploy.pictures.opened`.
    """
    with opened(path) as image:
        width, height = image.size
        channels, depth = channels_of(image), depth_of(image)
        orientation, exif = orientation_of(image, path)
        profile = image.info.get("icc_profile")
        fits = isinstance(profile, bytes) and profile[16:20] == PROFILE_SPACES[channels]  # ICC.1:2022 7.2.8
        return Head(
            path,
            str(image.format),
            image.mode,
            (height, width),
            channels,
            depth,
            orientation,
            is_plain(image),
            profile if fits else None,
            exif,
            1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1)),
        )


def channels_of(image: Image.Image) -> int:
    """Return the channels of a picture that is not decoded yet, 1 to 4."""
    grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return (1 if grey else 3) + transparent


def depth_of(image: Image.Image) -> int:
    """Return the bytes of a sample of a picture that is not decoded yet: 1, 2 or 4."""
    if image.mode in ("I", "F") and image.format != "PNG":
        return 4
    # Pillow gives 16-bit RGB the mode of 8 bits; only the raw mode of its tiles tells.
    deep = image.mode.startswith("I") or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    return 2 if deep else 1


def is_plain(image: Image.Image) -> bool:
    """Return whether both Pillow and libvips read rows of it as the same samples."""
    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA"), "JPEG": ("L", "RGB"), "MPO": ("L", "RGB")}
    modes["TIFF"] = ("1", "L", "LA", "P", "RGB", "RGBA")
    deep = image.mode.startswith("I;16") and "transparency" not in image.info
    if image.format == "TIFF" and image.mode in ("LA", "RGBA"):
        extra = getattr(image, "tag_v2", {}).get(EXTRA_SAMPLES)
        return extra in ((UNASSOCIATED_ALPHA,), UNASSOCIATED_ALPHA)  # others are multiplied into the colours
    return image.mode in modes.get(str(image.format), ()) or (deep and image.format in ("PNG", "TIFF"))


def orientation_of(image: Image.Image, path: Path) -> tuple[int, bytes | None]:
    """Return the EXIF orientation, 1 where there is none, and the EXIF without it, ``Exif\\0\\0`` in front."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all of it to look behind the pixels
        content = png_exif(path)
        if content is None:
            return 1, None
        exif = Image.Exif()
        exif.load(content)
    else:
        exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if image.format == "TIFF":  # its own tags, which describe the file and not the picture
        return orientation if orientation in range(1, 9) else 1, None
    with suppress(KeyError):
        del exif[ExifTags.Base.Orientation]
    return orientation if orientation in range(1, 9) else 1, exif.tobytes() if len(exif) else None


def png_exif(path: Path) -> bytes | None:
    """Return what an eXIf chunk of a PNG holds, wherever it lies; chunks are skipped, not read."""
    with path.open("rb") as stream:
        stream.seek(8)
        while len(start := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", start)
            if name == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, 1)
    return None

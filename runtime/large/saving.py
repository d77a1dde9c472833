"""Results that are written by rows: the protocol of their writers, and what a file carries besides pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sr_deploy.runtime.pictures.encode import QUALITY
from sr_deploy.runtime.pictures.jpeg_file import LONGEST_SEGMENT
from sr_deploy.runtime.pictures.metadata import PREFIX
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.png_file import Chunks
from sr_deploy.runtime.pictures.samples import Pixels


class RowWriter(Protocol):
    """Writes one picture to a stream, from top to bottom."""

    def write(self, rows: Pixels) -> None:
        """Take the rows that come next, (n, w, c); what is complete is written.

        Raises:
            OSError: the stream cannot be written.
        """

    def close(self) -> None:
        """Write what is left and the end of the file; the stream stays open.

        Raises:
            OSError: the stream cannot be written.
        """


@dataclass(frozen=True)
class Carried:
    """What the file of a result holds besides pixels, and how it is encoded."""

    icc_profile: bytes | None = None  # of the same colour space as the pixels
    exif: bytes = b""  # of the result, with its prefix
    chunks: Chunks = ()  # of a PNG, EXIF among them
    quality: int = QUALITY  # of JPEG, 1 to 100


def carried_by(picture: Picture, kind: str, scale: int, quality: int | None) -> Carried:
    """Return what goes along from a picture into a ``png``, ``jpeg`` or ``tiff`` of its result, as where it fits into memory."""
    h, w, _ = picture.pixels.shape
    longest = LONGEST_SEGMENT if kind == "jpeg" else None
    exif = picture.tags.written((w * scale, h * scale), longest=longest) if picture.tags is not None else b""
    chunks = picture.chunks if picture.format == "png" else ()
    own = [(b"eXIf", exif[len(PREFIX) :])] if exif else []
    return Carried(picture.icc_profile, exif, [*chunks, *own], quality or QUALITY)

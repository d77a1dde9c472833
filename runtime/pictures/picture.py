"""A decoded picture file: pixels, and what goes along with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sr_deploy.runtime.pictures.beside import Beside
from sr_deploy.runtime.pictures.metadata import Tags
from sr_deploy.runtime.pictures.samples import Pixels


@dataclass(frozen=True)
class Frames:
    """The frames of a picture file behind the first, and how they are shown."""

    pixels: tuple[Pixels, ...] = ()
    durations_ms: tuple[int, ...] = ()  # of all frames, the first among them; none of pages
    loop: int = 0  # how often an animation is shown, 0 for ever


@dataclass(frozen=True)
class Picture:
    """A decoded picture file."""

    pixels: Pixels  # (h, w, c): grey, grey+alpha, RGB or RGBA
    icc_profile: bytes | None = None  # of the same colour space as the pixels
    frames: int = 1  # in the file; the first one is here
    format: str = "png"  # of the file
    tags: Tags | None = None  # EXIF
    chunks: tuple[tuple[bytes, bytes], ...] = ()  # of a PNG: what its colours are, and text
    lossless: bool = True
    rest: Frames = field(default_factory=Frames)  # where all frames are read
    jpeg_quality: int | None = None  # that a JPEG was saved with
    beside: Beside = field(default_factory=Beside)

    @property
    def all_frames(self) -> tuple[Pixels, ...]:
        """The frames that were read, at least the first."""
        return (self.pixels, *self.rest.pixels)

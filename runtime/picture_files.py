"""Picture files in and out: Pillow modes to plain arrays, and PNG files that appear whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.files import replacing
from sr_deploy.pictures import is_grey, open_picture
from sr_deploy.runtime.upscale import Pixels

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PROFILE_SPACES = {"grey": b"GRAY", "colour": b"RGB "}
PNG_MAX_SIDE = 2**31 - 1


@dataclass(frozen=True)
class Picture:
    """A decoded picture file."""

    pixels: Pixels  # uint8 (h, w, c): grey, grey+alpha, RGB or RGBA
    icc_profile: bytes | None = None  # of the same colour space as the pixels
    frames: int = 1  # in the file; the first one is here


def read_picture(path: Path) -> Picture:
    """Return the first frame of a picture file; alpha is kept wherever the file has it.

    Raises:
        InputError: see :func:`sr_deploy.pictures.open_picture`.
    """
    image = open_picture(path)
    pixels = pixels_of(image)
    space = PROFILE_SPACES["grey" if pixels.shape[2] <= 2 else "colour"]
    profile = image.info.get("icc_profile")
    fits = isinstance(profile, bytes) and profile[16:20] == space  # header field "colour space of data", ICC.1:2022 7.2.8
    return Picture(pixels, profile if fits else None, int(image.info.get("frames", 1)))


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of :func:`read_picture`."""
    return read_picture(path).pixels


def pixels_of(image: Image.Image) -> Pixels:
    """Return uint8 (h, w, c) in the fewest channels that hold the picture."""
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if is_grey(image) and transparent:
        # Through RGBA: Pillow resolves a transparency key of a grey picture only there.
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., (0, 3)])
    mode = "L" if is_grey(image) else "RGBA" if transparent else "RGB"
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def write_png(path: Path, pixels: Pixels, *, icc_profile: bytes | None = None) -> None:
    """Write uint8 (h, w, c) as a PNG with its colour profile, whole or not at all."""
    h, w, channels = pixels.shape
    if max(h, w) > PNG_MAX_SIDE:
        raise InputError(f"{path}: {w}x{h} pixels do not fit into a PNG")
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, MODES[channels])
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", compress_level=3, icc_profile=icc_profile)

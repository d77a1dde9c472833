"""Picture files in and out: Pillow modes to plain arrays, and PNG files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.files import replacing
from sr_deploy.pictures import is_grey, open_picture
from sr_deploy.runtime.upscale import Pixels

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PNG_MAX_SIDE = 2**31 - 1


def read_pixels(path: Path) -> Pixels:
    """Return the picture as uint8 (h, w, c): grey, grey+alpha, RGB or RGBA; alpha is kept wherever the file has it.

    Raises:
        InputError: see :func:`sr_deploy.pictures.open_picture`.
    """
    image = open_picture(path)
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if is_grey(image) and transparent:
        # Through RGBA: Pillow resolves a transparency key of a grey picture only there.
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., (0, 3)])
    mode = "L" if is_grey(image) else "RGBA" if transparent else "RGB"
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def write_png(path: Path, pixels: Pixels) -> None:
    """Write uint8 (h, w, c) as a PNG, whole or not at all."""
    h, w, channels = pixels.shape
    if max(h, w) > PNG_MAX_SIDE:
        raise InputError(f"{path}: {w}x{h} pixels do not fit into a PNG")
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, MODES[channels])
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", compress_level=3)

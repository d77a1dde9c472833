"""Small picture files of every kind that is read by rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.png_file import SIGNATURE, chunk
from sr_deploy.runtime.pictures.samples import Pixels
from tests.runtime.pictures.odd_tiff import Shape, odd_tiff

HEIGHT, WIDTH = 301, 97


def samples(channels: int, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> Pixels:
    """Return a smooth picture with noise; alpha has transparent, opaque and half transparent parts."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rng = np.random.default_rng(0)
    white = np.iinfo(dtype).max
    planes = [(0.5 + 0.4 * np.sin(x / (7 + c) + y / (11 - c))) * white for c in range(channels)]
    found = np.stack(planes, axis=-1) + rng.integers(0, white // 30, (HEIGHT, WIDTH, channels))
    if channels in (2, 4):
        found[..., -1] = np.clip((x + y) * white / 100 - white, 0, white)
    return np.clip(found, 0, white).astype(dtype)


def image(mode: str) -> Image.Image:
    """Return a picture of one of Pillow's modes."""
    if mode == "CMYK":
        return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(samples(4)[..., c] // 2)) for c in range(4)])
    channels = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4}[mode]
    found = Image.fromarray(samples(channels).squeeze())
    return found.quantize(16) if mode == "P" else found.convert(mode)


def with_exif(orientation: int) -> Image.Exif:
    """Return EXIF of a camera."""
    exif = Image.Exif()
    exif.endian = "<"
    exif[271], exif[274] = "Maker", orientation
    exif[0x8769] = {36867: "2020:01:02 03:04:05"}
    found = Image.Exif()
    found.load(exif.tobytes())
    return found


@cache  # it holds the time it was made
def profile() -> bytes:
    """Return an RGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def write_deep(path: Path, pixels: Pixels) -> None:
    """Write samples of any depth as PNG or TIFF."""
    if path.suffix == ".tif":
        path.write_bytes(
            odd_tiff(pixels, Shape(1 if pixels.shape[2] < 3 else 2, extra=None if pixels.shape[2] in (1, 3) else 2, rows=50))
        )
        return
    ordered: NDArray[np.uint16] = np.asarray(pixels[..., 2::-1] if pixels.shape[2] == 3 else pixels, np.uint16)
    if pixels.shape[2] == 4:
        ordered = np.asarray(pixels[..., (2, 1, 0, 3)], np.uint16)
    assert cv2.imwrite(str(path), ordered)


def encoded(kind: str, pixels: Pixels) -> bytes:
    """Return the file of a result."""
    return b"".join(encode(kind, [pixels], Picture(pixels)))


KINDS: dict[str, Callable[[Path], object]] = {
    "bilevel.png": lambda path: image("1").save(path),
    "grey.png": lambda path: image("L").save(path),
    "grey.jpg": lambda path: image("L").save(path, quality=90),
    "grey.tif": lambda path: image("L").save(path, compression="tiff_lzw"),
    "grey_alpha.png": lambda path: image("LA").save(path),
    "grey_key.png": lambda path: image("L").save(path, transparency=140),
    "palette.png": lambda path: image("P").save(path),
    "palette_key.png": lambda path: image("P").save(path, transparency=3),
    "rgb.png": lambda path: image("RGB").save(path, icc_profile=profile(), exif=with_exif(1)),
    "rgb_interlaced.png": lambda path: path.write_bytes(interlaced_png()),
    "rgb_key.png": lambda path: image("RGB").quantize(8).convert("RGB").save(path, transparency=(127, 127, 127)),
    "rgb_444.jpg": lambda path: image("RGB").save(path, quality=95, subsampling=0, icc_profile=profile(), exif=with_exif(1)),
    "rgb_420.jpg": lambda path: image("RGB").save(path, quality=80, subsampling=2),
    "rgb_progressive.jpg": lambda path: image("RGB").save(path, progressive=True),
    "rgb.tif": lambda path: image("RGB").save(path, compression="tiff_deflate", icc_profile=profile()),
    "rgba.png": lambda path: image("RGBA").save(path),
    "rgba.tif": lambda path: write_deep(path, samples(4)),
    "cmyk.jpg": lambda path: image("CMYK").save(path, quality=95),
    "cmyk.tif": lambda path: image("CMYK").save(path),
    "grey_16.png": lambda path: write_deep(path, samples(1, np.uint16)),
    "grey_12_in_16.tif": lambda path: write_deep(path, samples(1, np.uint16) // 16),
    "rgb_16.png": lambda path: write_deep(path, samples(3, np.uint16)),
    "rgb_16.tif": lambda path: write_deep(path, samples(3, np.uint16)),
    "rgba_16.png": lambda path: write_deep(path, samples(4, np.uint16)),
    "rgba_16.tif": lambda path: write_deep(path, samples(4, np.uint16)),
    "grey_alpha_16.png": lambda path: path.write_bytes(encoded("png", samples(2, np.uint16))),
    "rgb_planes_16.tif": lambda path: path.write_bytes(odd_tiff(samples(3, np.uint16), Shape(2, planes=True, rows=50))),
    "rgba_multiplied_16.tif": lambda path: path.write_bytes(odd_tiff(samples(4, np.uint16), Shape(2, extra=1, tile=(32, 48)))),
    "lab_16.tif": lambda path: path.write_bytes(odd_tiff(samples(3, np.uint16), Shape(8))),
    "rgb_float.tif": lambda path: path.write_bytes(odd_tiff(samples(3) / np.float32(100) - np.float32(1), Shape(2))),
}


def interlaced_png() -> bytes:
    """Return an Adam7 PNG of 30x30 pixels, which Pillow cannot write: RGB, filter None."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    lines = b""
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        for row in pixels[y0::dy, x0::dx]:
            lines += b"\0" + row.tobytes() if row.size else b""
    head = struct.pack(">IIBBBBB", 30, 30, 8, 2, 0, 0, 1)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")

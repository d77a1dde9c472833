"""Pictures of 16 bits and of floats, which Pillow cuts to 8 bits or does not know: grey or RGB samples, with or without alpha."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.runtime.pictures.colour import rgb_from_lab16
from sr_deploy.runtime.pictures.metadata import png_chunks
from sr_deploy.runtime.pictures.png_file import OPENCV_MAX_SIDE, SIGNATURE, chunk
from sr_deploy.runtime.pictures.quiet_opencv import silence
from sr_deploy.runtime.pictures.samples import Pixels, nominal
from sr_deploy.runtime.pictures.tiff_read import Layout, Samples

WHITE_IS_ZERO, LAB = 0, 8  # TIFF's photometric interpretations
MULTIPLIED, SEPARATE_ALPHA = 1, 2  # TIFF's kinds of extra samples
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of PNG's colour types
ROWS = 256


def pixels_from_single(image: Image.Image, path: Path) -> Pixels:
    """Return one decoded channel of 16 bits or floats, its transparency key resolved: (h, w, 1 or 2).

    Raises:
        InputError: integers beyond 16 bits.
    """
    pixels = sixteen_bits(np.asarray(image)[..., None], path) if image.mode != "F" else np.asarray(image)[..., None]
    return with_key(pixels, image.info.get("transparency"))


def with_key(pixels: Pixels, key: object) -> Pixels:
    """Return grey or RGB with alpha: fully transparent where it is the colour ``key``; itself where there is no key."""
    if not isinstance(key, (int, tuple)):
        return pixels
    alpha = np.any(pixels != np.array(key, pixels.dtype), axis=-1, keepdims=True)
    return np.concatenate([pixels, alpha * np.array(nominal(pixels.dtype).white, pixels.dtype)], axis=-1)


def pixels_from_png(content: bytes, path: Path, key: object) -> Pixels:
    """Return a PNG of 16 bits, uint16 (h, w, c); of one that is cut off, what is there.

    Raises:
        InputError: OpenCV cannot decode it, or takes no picture of such a side.
    """
    head, data = b"", []
    for name, part in png_chunks(content):
        head = bytes(part) if name == b"IHDR" and not head else head
        if name == b"IDAT":
            data.append(part)
    width, height, _, kind, *_ = struct.unpack(">IIBBBBB", head)
    if max(width, height) > OPENCV_MAX_SIDE:
        raise InputError(
            f"{path}: {width}x{height} pixels of 16 bits in a PNG, the limit of a side is {OPENCV_MAX_SIDE}; write it as a TIFF"
        )
    packed = b"".join(data)
    with silence():
        found = cv2.imdecode(np.frombuffer(minimal_png(head, packed), np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None:
            enough = height * (2 * CHANNELS[kind] * width + 16)  # also interlaced; what is behind may be a bomb
            lines = zlib.decompressobj().decompress(packed, enough) if packed else b""
            again = minimal_png(head, zlib.compress(lines.ljust(enough, b"\0"), 1))
            found = cv2.imdecode(np.frombuffer(again, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise InputError(f"{path}: cannot be decoded (OpenCV refuses its 16-bit samples); write it as a 16-bit TIFF")
    pixels = np.asarray(found, np.uint16).reshape(height, width, -1)
    if CHANNELS[kind] == 2:
        return np.ascontiguousarray(pixels[..., (0, -1)])
    for top in range(0, height, ROWS):  # OpenCV's order is blue, green, red
        pixels[top : top + ROWS, :, :3] = pixels[top : top + ROWS, :, 2::-1].copy()
    return with_key(pixels[..., : CHANNELS[kind]], key)


def minimal_png(head: bytes, packed: bytes) -> bytes:
    """Return a PNG of a header's and a data chunk alone: what else stood there moves OpenCV to convert, or to talk."""
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pixels_from_tiff(samples: Samples, layout: Layout, path: Path) -> Pixels:
    """Return what the samples of a TIFF page show: uint8 for Lab and samples of 8 bits, else uint16 or float32, (h, w, c).

    Raises:
        InputError: integers beyond 16 bits, or too few channels.
    """
    colours = 1 if layout.photometric <= 1 else 3
    if layout.channels < colours:
        raise InputError(f"{path}: {layout.channels} channels of a colour TIFF, it needs 3; write it as RGB")
    if layout.photometric == LAB:
        if layout.dtype.itemsize != 2 or layout.kind == "f":
            raise InputError(f"{path}: Lab of {layout.dtype} samples is not read; write it as RGB, or in 8 or 16 bits")
        return rgb_from_lab16(np.ascontiguousarray(samples[..., :3]).view(np.uint16))
    pixels: Pixels = np.asarray(samples, np.float32) if layout.kind == "f" else sixteen_bits(samples, path)
    extra = layout.extra or ((SEPARATE_ALPHA,) if layout.channels == colours + 1 else ())
    alpha = [i for i, kind in enumerate(extra) if kind in (MULTIPLIED, SEPARATE_ALPHA) and colours + i < layout.channels][:1]
    chosen = [*range(colours), *(colours + i for i in alpha)]
    pixels = pixels if len(chosen) == layout.channels else np.ascontiguousarray(pixels[..., chosen])
    if layout.photometric == WHITE_IS_ZERO:
        pixels[..., 0] = np.array(nominal(pixels.dtype).white, pixels.dtype) - pixels[..., 0]
    if alpha and extra[alpha[0]] == MULTIPLIED:
        divide_(pixels)
    return pixels


def divide_(pixels: Pixels) -> None:
    """Divide colours, (h, w, c), by the alpha that they were multiplied with."""
    white = nominal(pixels.dtype).white
    for top in range(0, len(pixels), ROWS):
        part = pixels[top : top + ROWS]
        opacity = np.maximum(part[..., -1:].astype(np.float32), np.float32(1e-6 * white))
        divided = part[..., :-1] * (np.float32(white) / opacity)
        part[..., :-1] = divided if pixels.dtype == np.float32 else np.clip(np.rint(divided), 0, white)


def sixteen_bits(samples: Samples, path: Path) -> Pixels:
    """Return integer samples of any type as uint16, those of 8 bits as they are.

    Raises:
        InputError: one is negative or beyond 65535.
    """
    if samples.dtype in (np.uint8, np.uint16):
        return samples  # type: ignore[return-value]
    numbers = np.asarray(samples)
    least, largest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if least < 0 or largest > 65535:
        raise InputError(
            f"{path}: integer samples from {least} to {largest}, the limit is 65535; write them in 16 bits or as floats"
        )
    return numbers.astype(np.uint16)

"""What is fuzzed: bytes into the loader of pictures, and sizes, tiles and halos into the tiler."""

from __future__ import annotations

import os
import resource
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.backends.engine import Engine, Gpu, Tiles
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.upscaling.tiling import run_bands

MAX_PIXELS = 2**20  # while the loader is fuzzed, so that little memory is enough
MEMORY = 2**29  # bytes that decoding may take beside: pixels, and compressed text and profiles of up to 2**27
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def load_bytes(data: bytes) -> bool:
    """Let the loader read ``data`` as a file; return whether it is a picture.

    Anything but a picture or an ``InputError`` is raised: it is what fuzzing is for.
    """
    handle = os.memfd_create("picture")
    try:
        os.write(handle, data)
        found = read_picture(Path(f"/proc/self/fd/{handle}"), Reading(max_pixels=MAX_PIXELS)).pixels
    except InputError as err:
        assert "\n" not in str(err), str(err)
        return False
    finally:
        os.close(handle)
    assert found.ndim == 3 and found.shape[2] in (1, 2, 3, 4) and 0 < found.shape[0] * found.shape[1] <= MAX_PIXELS
    return True


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process have ``MEMORY`` more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (min(limit, before[1]) if before[1] > 0 else limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


XMP = b'<x:xmpmeta><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'
FITTING = {"group4": ("1",), "jpeg": ("L", "RGB")}  # modes by compression of a TIFF: Pillow 12 does not survive others


@cache
def seeds() -> dict[str, bytes]:
    """Return small pictures of every format, mode and oddity that Pillow writes, by name."""
    noise = Image.effect_noise((13, 11), 60)
    colour = Image.merge("RGB", [noise, noise.rotate(90, expand=False), noise.rotate(180)])
    exif = Image.Exif()
    exif[0x0112] = 6
    modes = {"L": noise, "RGB": colour, "P": colour.quantize(9), "1": noise.convert("1"), "LA": noise.convert("LA")}
    modes |= {
        "RGBA": colour.convert("RGBA"),
        "CMYK": colour.convert("CMYK"),
        "I;16": noise.convert("I;16"),
        "F": noise.convert("F"),
    }
    found = {}
    for mode, image in modes.items():
        for kind, options in _variants(mode, exif):
            if mode not in FITTING.get(str(options.get("compression")), (mode,)):
                continue
            stream = BytesIO()
            try:
                image.save(stream, kind, **options)
            except (OSError, KeyError, ValueError, TypeError):  # this format holds no such picture
                continue
            found["-".join([kind, mode, *options, *(v for v in options.values() if isinstance(v, str))])] = stream.getvalue()
    return found


def _variants(mode: str, exif: Image.Exif) -> list[tuple[str, dict[str, object]]]:
    frames = [Image.new("L", (13, 11), 9 * n) for n in range(2)]
    alike = [frame.convert(mode) for frame in frames]  # for a PNG of several modes Pillow takes one of them by chance
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    text.add_text("Comment", "words", zip=True)
    beside: dict[str, object] = {"exif": exif, "icc_profile": bytes(16) + b"RGB " + bytes(200)}
    found: list[tuple[str, dict[str, object]]] = [(kind, {}) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")]
    found += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4")]
    found += [(kind, beside) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")]
    found += [("PNG", {"pnginfo": text}), ("JPEG", {"comment": "words", "xmp": XMP}), ("GIF", {"comment": "words"})]
    found += [(kind, {"save_all": True, "append_images": frames}) for kind in ("GIF", "TIFF", "WEBP")]
    found += [("PNG", {"save_all": True, "append_images": alike})]
    found += [("JPEG", {"progressive": True}), ("WEBP", {"lossless": True}), ("GIF", {"transparency": 3, "interlace": True})]
    return found


def with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have right checksums, as far as they can be followed: most changes end at a wrong one."""
    if not data.startswith(SIGNATURE):
        return data
    parts, at = [SIGNATURE], len(SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        parts += [data[at : at + 4], body, zlib.crc32(body).to_bytes(4, "big")]
        at += 12 + length
    return b"".join([*parts, data[at:]])


@dataclass(frozen=True)
class Cut:
    """A picture and how it is cut."""

    size: tuple[int, int]
    tile: tuple[int, int]
    halo: int
    factor: int = 1
    batch: int = 1


class BoxEngine:
    """Sums of the pixels within the halo, zeros beyond the border, each ``factor`` times as large: whole numbers, so exact."""

    provider = "NumPy"
    gpu: Gpu | None = None

    def __init__(self, cut: Cut, tile: tuple[int, int]) -> None:
        self.halo, self.factor, self.batches = cut.halo, cut.factor, (cut.batch,)
        shape = (cut.batch, 1, *tile)
        self.card = ModelCard(
            arch="box",
            widths=(),
            scales=(cut.factor,),
            default_scale=cut.factor,
            upscale="before" if cut.factor == 1 else "inside",
            halo=cut.halo,
            input_shape=shape,
            output_shape=(cut.batch, 1, tile[0] * cut.factor, tile[1] * cut.factor),
        )

    def run(self, tiles: Tiles) -> Tiles:
        sums = box_sums(tiles.astype(np.int64), self.halo)
        return np.asarray(sums.repeat(self.factor, 2).repeat(self.factor, 3), np.float32)

    def close(self) -> None: ...


def box_sums(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Return the sum of the (2 * reach + 1)**2 values around each; zeros beyond the border: (n, c, h, w)."""
    for axis in (2, 3):
        thick = [(0, 0)] * 4
        thick[axis] = (reach + 1, reach)
        running = np.cumsum(np.pad(values, thick), axis=axis)
        length = values.shape[axis]
        values = running.take(range(2 * reach + 1, 2 * reach + 1 + length), axis) - running.take(range(length), axis)
    return values


def check_cut(cut: Cut) -> None:
    """Check that the bands of a picture partition its result, and that the result is that of the whole picture."""
    (h, w), (tile_h, _) = cut.size, cut.tile
    planes = np.random.default_rng(h * 1000 + w).integers(0, 16, (1, h, w)).astype(np.float32)
    engine: Engine = BoxEngine(cut, cut.tile)
    bands = list(run_bands(engine, lambda first, last: rows_of(planes, first, last, tile_h), (h, w)))
    _check_partition([(top, band.shape[1]) for top, band in bands], h * cut.factor)
    found = np.concatenate([band for _, band in bands], axis=1)
    whole = np.pad(planes, [(0, 0), (cut.halo, cut.halo), (cut.halo, cut.halo)], mode="symmetric")
    expected = BoxEngine(cut, (whole.shape[1], whole.shape[2])).run(whole[None])[0]
    first = cut.halo * cut.factor
    assert np.array_equal(found, expected[:, first : first + h * cut.factor, first : first + w * cut.factor]), cut


def rows_of(planes: NDArray[np.float32], first: int, last: int, most: int) -> NDArray[np.float32]:
    """Return rows of a picture; never more than a tile has, and none that are not there."""
    assert 0 <= first < last <= planes.shape[1] and last - first <= most
    return planes[:, first:last]


def _check_partition(bands: Sequence[tuple[int, int]], height: int) -> None:
    at = 0
    for top, rows in bands:
        assert top == at and rows > 0, bands
        at += rows
    assert at == height, bands


def cut_of(numbers: Sequence[int]) -> Cut:
    """Return a valid cut from seven numbers of any size."""
    h, w, tile_h, tile_w, halo, factor, batch = numbers
    halo %= 9
    tile = (2 * halo + 1 + tile_h % 40, 2 * halo + 1 + tile_w % 40)
    return Cut((1 + h % 150, 1 + w % 150), tile, halo, 1 + factor % 4, 1 + batch % 3)

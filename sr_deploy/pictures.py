"""Opening picture files with Pillow, which rejects truncated files (OpenCV accepts some): limits, one-line errors, no chatter."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.options import MAX_PIXELS
from sr_deploy.picture_kinds import HEAD, check_no_preview, check_read, kind_of_content

HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")  # of others Pillow cuts deep samples to 8 bits, or runs programs
ORIENTATION = int(ExifTags.Base.Orientation)
TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange height and width
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
TOO_EARLY = "the file ends too early, or is damaged where nothing can be taken from it; get it again"
ENDS_EARLY = "the file ends early or is damaged, sr-infer --allow-truncated takes what is there"
_DECODING = threading.RLock()  # the pixel limit and the warning filters are globals
# Text beside the pixels, a long editing history, say, is no reason to reject them.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 2**26, 2**27
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Pillow's words are a second line beside ours
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class Reading:
    """What may be read."""

    max_pixels: int = MAX_PIXELS  # that a file may declare, all its frames together where all are read
    allow_truncated: bool = False  # take what is there of a file that ends early
    frames: bool = False  # all of an animation or a document, instead of the first

    def __post_init__(self) -> None:
        """Raise ``InputError`` where the limit is not positive."""
        if self.max_pixels < 1:
            raise InputError(f"--max-pixels {self.max_pixels}: not a positive number; the default is {MAX_PIXELS}")


DEFAULT = Reading()


def open_picture(path: Path) -> Image.Image:
    """Return the decoded picture, EXIF orientation applied; its first frame if it has several. Thread-safe.

    ``info["frames"]`` of the result is the number of frames or pages; the previews in a camera's JPEG do not count.

    Raises:
        InputError: missing, not a picture, truncated, deeper than 8 bits, or over ``MAX_PIXELS``.
    """
    with opened(path) as image:
        refuse_deep(image, path)
        frames = frame_count(image)
        image.load()
        seen: Image.Image = image.convert("LA") if image.mode == "La" else image  # Pillow converts La into nothing else
        upright = ImageOps.exif_transpose(seen) if exif_of(image).get(ORIENTATION) in range(2, 9) else seen.copy()
        upright.info["frames"] = frames
        return upright


def picture_size(path: Path) -> tuple[int, int]:
    """Return height and width of what :func:`open_picture` gives, from the file's header alone.

    An orientation that a PNG holds behind its pixels is not seen.

    Raises:
        InputError: missing, not a picture, deeper than 8 bits, or over ``MAX_PIXELS``.
    """
    with opened(path) as image:
        refuse_deep(image, path)
        width, height = stored_size(image)
        if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all of it to look further
            return height, width
        return (width, height) if exif_of(image).get(ORIENTATION) in TURNED else (height, width)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height in the file of a picture that is not decoded yet: Pillow gives those of an upright TIFF."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[TIFF_WIDTH]), int(tags[TIFF_HEIGHT]))


def exif_of(image: Image.Image) -> Image.Exif:
    """Return the EXIF that was read of a picture so far; an empty one where it is damaged, which spoils no pixels."""
    try:
        return Image.Image.getexif(image)  # that of PNG would decode all of it to look behind the pixels
    except Exception:  # Pillow's parser raises whatever it met
        return Image.Exif()


def frame_count(image: Image.Image) -> int:
    """Return the number of frames or pages; the previews in a camera's JPEG do not count."""
    return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def is_deep(image: Image.Image) -> bool:
    """Return whether an opened picture, not decoded yet, has samples deeper than 8 bits."""
    # Pillow cuts 16-bit RGB to 8 bits without a word; only the raw mode of its tiles tells. A BMP may have 16 bits a pixel.
    return image.mode in DEEP_MODES or (image.format != "BMP" and any(";16" in str(tile) for tile in getattr(image, "tile", ())))


def refuse_deep(image: Image.Image, path: Path) -> None:
    """Raise ``InputError`` where samples are deeper than 8 bits."""
    if is_deep(image):
        raise InputError(
            f"{path}: has samples deeper than 8 bits ({image.mode}), 8-bit pictures are measured and trained on; convert it"
        )


@contextmanager
def opened(path: Path, reading: Reading = DEFAULT) -> Iterator[Image.Image]:
    """Yield the picture, its pixels not read yet; what goes wrong inside is explained in one line. Thread-safe.

    Raises:
        InputError: missing, not a picture, or over the limit of pixels; whatever a decoder raises inside.
    """
    with explained(path), source(path) as stream, decoding(reading):
        yield image_in(stream, path, reading)


@contextmanager
def quiet() -> Iterator[None]:
    """Run a block in which Pillow gives no warnings. One thread at a time."""
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def decoding(reading: Reading) -> Iterator[None]:
    """Run a block in which Pillow says nothing and takes truncated files as ``reading`` says. One thread at a time."""
    with quiet():
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, reading.allow_truncated
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def source(path: Path) -> Iterator[BinaryIO]:
    """Yield a regular file for reading.

    Raises:
        InputError: ``path`` is a device or a pipe, or the file is empty.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: not a regular file; write it to one first")
    with BoundedFile(path) as stream:
        if not stream.read(1):
            raise InputError(f"{path}: an empty file; it was probably never written out")
        stream.seek(0)
        yield stream


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside while a picture file is read into one line.

    Raises:
        InputError: anything but too little memory.
    """
    try:
        yield
    except SrDeployError:
        raise
    except FileNotFoundError as err:
        raise InputError(f"{path}: no such file; check the name") from err
    except IsADirectoryError as err:
        raise InputError(f"{path}: a folder, not a picture; name the pictures in it") from err
    except MemoryError:
        raise
    except OSError as err:
        if err.errno is None:  # Pillow's own, about what the file holds
            raise InputError(undecodable(path, err)) from err
        raise InputError(f"{path}: cannot be read ({err.strerror}); check its name and permissions") from err
    except Exception as err:  # Pillow's decoders raise whatever their parser met: OSError, SyntaxError, struct.error, ...
        raise InputError(undecodable(path, err)) from err


def undecodable(path: Path, err: Exception, *, header: bool = False) -> str:
    """Return one line about a file that Pillow cannot decode; of a broken ``header`` nothing is there to be taken."""
    known = f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file" if isinstance(err, UnidentifiedImageError) else ""
    reason = known or " ".join(str(err).replace(str(path), "the file").split()) or type(err).__name__
    if "truncated" in reason.lower() and not header:
        return f"{path}: cannot be decoded ({reason}); {ENDS_EARLY}"
    return f"{path}: cannot be decoded ({reason}); the file is of another kind or damaged"


def image_in(stream: BinaryIO, path: Path, reading: Reading) -> Image.Image:
    """Return the picture in an open file, its pixels not read yet; inside :func:`decoding`. ``path`` is its name in messages.

    Raises:
        InputError: over the limit of pixels, or of a kind that is known and not read.
        Exception: whatever Pillow's parser meets; see :func:`explained`.
    """
    head = stream.read(HEAD)
    stream.seek(0)
    check_read(path, head)
    # Pillow's own limit is a global, and half of what it rejects; ours is below. But opening a GIF fills its first frame already.
    is_gif, is_avif = head.startswith(b"GIF8"), kind_of_content(head) == "AVIF"  # whose library is loaded where it is needed
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max(reading.max_pixels // 2, 1) if is_gif else None
    try:
        image = Image.open(stream, formats=[name for name in FORMATS if name != "AVIF" or is_avif])
    except Image.DecompressionBombError as err:
        limited = f"declares more than {reading.max_pixels} pixels, which is the limit"
        raise InputError(f"{path}: {limited}; cut it into parts, or see sr-infer --max-pixels") from err
    except (OSError, SyntaxError) as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        raise InputError(undecodable(path, err, header=True)) from err
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if image.format == "TIFF":
        check_no_preview(path, getattr(image, "tag_v2", {}))
        silence_libtiff()
    check_declared(path, image.size, reading)
    return image


def check_declared(path: Path, size: tuple[int, int], reading: Reading, *, area: int | None = None) -> None:
    """Check (width, height) that a file declares; ``area`` is that of several frames together.

    Raises:
        InputError: more pixels than the limit.
    """
    width, height = size
    if (width * height if area is None else area) > reading.max_pixels:
        what = f"{width}x{height} pixels" if area in (None, width * height) else f"{area} pixels in its frames"
        limit = f"the limit is {reading.max_pixels}"
        raise InputError(f"{path}: declares {what}, {limit}; cut it into parts, or see sr-infer --max-pixels")


class BoundedFile(io.BufferedReader):
    """A file open for reading bytes.

    Python reserves what ``read(n)`` asks for before it reads, and decoders ask for the lengths that a file declares: a PNG of a
    hundred bytes may declare a chunk of four gigabytes.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            OSError: it cannot be opened.
        """
        raw = io.FileIO(path, "rb")
        super().__init__(raw)
        self.size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes, all that are left if it is negative or ``None``."""
        left = max(self.size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@cache
def silence_libtiff() -> None:
    """Take the handlers of messages away from the libtiff that is loaded; where none is found, nothing is done."""
    with suppress(OSError, AttributeError):  # no /proc here, or libtiff is inside another library
        for path in {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libtiff" in line}:
            library = ctypes.CDLL(path)
            for name in HANDLERS:
                setter = getattr(library, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)

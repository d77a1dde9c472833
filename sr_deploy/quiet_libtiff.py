"""Keeps libtiff, with which Pillow decodes TIFF files, from writing to standard error itself: all is told in one line."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from pathlib import Path

HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


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

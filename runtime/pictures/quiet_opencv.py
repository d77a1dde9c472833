"""OpenCV without its own words on standard error: a refused picture is one line, ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

SILENT = cv2.utils.logging.LOG_LEVEL_SILENT


@contextmanager
def silence() -> Iterator[None]:
    """Run a block in which OpenCV logs nothing."""
    before = cv2.utils.logging.setLogLevel(SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)

"""A file that is read without more memory than it has bytes, whatever length its content declares."""

from __future__ import annotations

import io
import os
from pathlib import Path


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

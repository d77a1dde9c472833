"""Pictures that are read and written by rows, from top to bottom, so that memory goes by their width and not by their area.

A source gives its rows once, in order. Tiles overlap, and what is enlarged by bicubic looks a few rows up and down, so a window
of the last rows stands between the source and its readers; it is told how far the result has come and forgets what lies far
above.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from sr_deploy.runtime.pictures.rows import RowSource
from sr_deploy.runtime.pictures.samples import Pixels

Key = slice | tuple[slice, slice, int | slice]
STEP = 64  # rows that are read at once, at least


class Window:
    """The last rows of a source, sliced like the array (h, w, c) that the picture would be. Thread-safe."""

    def __init__(self, source: RowSource) -> None:
        """Read nothing yet."""
        self.source = source
        self.shape, self.dtype = source.shape, source.dtype
        self.end = 0  # of the rows that were read
        self.parts: deque[tuple[int, Pixels]] = deque()  # (first row, rows), without gaps, up to ``end``
        self.lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that are held now."""
        return sum(part.nbytes for _, part in self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Key) -> Pixels:
        """Return rows and, where asked for, columns and channels of them: a copy or a view that is not written to.

        Raises:
            InputError: the source turns out to be truncated or damaged.
            LookupError: rows are asked for that were released.
        """
        rows, rest = (key, None) if isinstance(key, slice) else (key[0], key[1:])
        first, last, step = rows.indices(self.shape[0])
        if step != 1:
            raise LookupError(f"rows by steps of {step}; a window gives consecutive rows")
        with self.lock:
            self._read_to(last)
            found = self._joined(first, max(first, last))
        return found if rest is None else found[(slice(None), *rest)]

    def release(self, before: int) -> None:
        """Forget the rows above ``before``; they are not asked for again."""
        with self.lock:
            while self.parts and self.parts[0][0] + len(self.parts[0][1]) <= before:
                self.parts.popleft()

    def _read_to(self, last: int) -> None:
        while self.end < last:
            until = min(self.end + STEP, self.shape[0])
            self.parts.append((self.end, self.source.rows(self.end, until)))
            self.end = until

    def _joined(self, first: int, last: int) -> Pixels:
        if first < last and (not self.parts or first < self.parts[0][0]):
            held = self.parts[0][0] if self.parts else self.end
            raise LookupError(f"row {first} was released; the window holds rows {held} to {self.end}")
        inside = [part[max(first - top, 0) : last - top] for top, part in self.parts if top < last and top + len(part) > first]
        if not inside:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return inside[0] if len(inside) == 1 else np.concatenate(inside)


class NextRows:
    """Stands where the result of a picture would: gives room for the rows that come next, and then hands them out."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[np.generic]) -> None:
        """Hold no rows yet; ``shape`` is that of the whole result."""
        self.shape, self.dtype = shape, dtype
        self.nbytes = 0
        self.top = 0
        self.room: Pixels | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Pixels:
        """Return room for the rows that come next, to be filled.

        Raises:
            LookupError: they are not the next ones.
        """
        first, last, _ = rows.indices(self.shape[0])
        if first != self.top:
            raise LookupError(f"row {first} of the result is written when row {self.top} is the next")
        self.room = np.empty((last - first, *self.shape[1:]), self.dtype)
        return self.room

    def taken(self) -> Pixels:
        """Return the rows that were filled; the next ones follow them."""
        found = self.room if self.room is not None else np.empty((0, *self.shape[1:]), self.dtype)
        self.top, self.room = self.top + len(found), None
        return found


class Stoppable:
    """A source that gives no more rows once ``stop`` is set."""

    def __init__(self, source: RowSource, stop: threading.Event) -> None:
        self.source, self.stop, self.shape, self.dtype = source, stop, source.shape, source.dtype

    def rows(self, first: int, last: int) -> Pixels:
        """See :class:`RowSource`.

        Raises:
            KeyboardInterrupt: the run that this picture is part of was ended.
        """
        if self.stop.is_set():
            raise KeyboardInterrupt
        return self.source.rows(first, last)

    def close(self) -> None:
        """See :class:`RowSource`."""
        self.source.close()

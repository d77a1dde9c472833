"""The files of a folder and below it, links followed, each folder once: so a loop of links ends, and nothing is done twice."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode of a folder, which all names of it share."""


@dataclass(frozen=True)
class Walk:
    """How folders are walked."""

    left_out: frozenset[Identity] = frozenset()  # folders not to enter, such as that of the results
    hidden: bool = False  # whether names that begin with a dot are found
    depth: int | None = None  # levels of folders below the first; None: all
    on_error: Callable[[Path, OSError], None] = field(default=lambda path, err: None)  # told what cannot be listed

    def files(self, folder: Path) -> list[Path]:
        """Return the files in ``folder`` and below it as paths that begin with it, sorted.

        What is no folder counts as a file, a link that leads nowhere too: who opens it is told. Real folders come before
        those that links lead to, so that a file which can be reached both ways has its real name.
        """
        return sorted(self._found(folder), key=lambda path: path.parts)

    def _found(self, folder: Path) -> Iterator[Path]:
        seen = set(self.left_out) - {identity_of(folder)}
        here, links = deque([(folder, 0)]), deque[tuple[Path, int]]()
        while here or links:
            path, level = here.popleft() if here else links.popleft()
            identity = identity_of(path)
            if identity in seen:
                continue
            if identity is not None:
                seen.add(identity)
            for entry in self._entries(path):
                inside = path / entry.name
                if not is_folder(entry):
                    yield inside
                elif self.depth is None or level < self.depth:
                    (links if entry.is_symlink() else here).append((inside, level + 1))

    def _entries(self, path: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(path) as entries:
                found = [entry for entry in entries if self.hidden or not entry.name.startswith(".")]
        except OSError as err:
            self.on_error(path, err)
            return []
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that cannot be followed is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def identity_of(path: Path) -> Identity | None:
    """Return what all names of a folder share; ``None`` where there is no folder."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None

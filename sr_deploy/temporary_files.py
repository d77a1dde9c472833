"""Temporary files that a later run can tell from those in use: each is locked as long as its writer lives.

A file is written under a temporary name and renamed. A process that is killed leaves the temporary one behind; the system takes
its lock away, and that is how the next run knows it for a leftover. Two runs into one folder leave each other's files alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = ".sr-"
NAME = re.compile(r"\.sr-[a-z0-9_]{8}\.part(\..*)?", re.DOTALL)


def new_temporary(folder: Path, suffix: str) -> tuple[Path, int]:
    """Return a new empty file in ``folder`` and the open descriptor that holds its lock; the caller closes it at the end.

    Where the file system knows no locks the file is merely not locked, and :func:`remove_leftovers` leaves it alone.

    Raises:
        OSError: the folder cannot be written.
    """
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=f".part{suffix[:16]}", dir=folder)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return Path(name), handle
        os.close(handle)  # another run took it for a leftover before it was locked


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files in ``folder`` whose writer was killed; return how many they were. Nothing is raised."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if NAME.fullmatch(entry.name)]
    except OSError:
        return 0
    return sum(_removed(os.path.join(folder, name)) for name in names)  # noqa: PTH118


def _removed(name: str) -> bool:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name)  # noqa: PTH108
    except OSError:  # in use, or gone by now
        return False
    finally:
        os.close(handle)
    return True

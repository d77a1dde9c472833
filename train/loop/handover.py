"""Passing a run with all its pictures to processes of the same machine, which share one copy of them.

The pictures of a run fill gigabytes. They are written once, as they lie in memory, and every process maps that file: pickle's
protocol 5 keeps arrays out of the pickle. What is read is only ever what the same program wrote into a folder that is its own.
"""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path

ARRAYS, VALUE = "arrays", "value"
LINE = 64  # bytes that an array begins at a multiple of


def hand_over(value: object, folder: Path) -> None:
    """Write ``value`` into ``folder``, for :func:`receive`."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    places = []
    with (folder / ARRAYS).open("wb") as file:
        for buffer in buffers:
            file.write(b"\0" * (-file.tell() % LINE))
            places.append((file.tell(), file.write(buffer.raw())))
        file.write(b"\0")  # an empty file cannot be mapped
    (folder / VALUE).write_bytes(pickle.dumps((places, content)))


def receive(folder: Path) -> object:
    """Return the value in ``folder``; its arrays are read-only and stay in the file, which may be removed."""
    places, content = pickle.loads((folder / VALUE).read_bytes())
    with (folder / ARRAYS).open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(content, buffers=[mapped[start : start + size] for start, size in places])


def forget(folder: Path) -> None:
    """Remove the files: whoever received the value keeps it, and nothing is left behind if the run is killed."""
    for name in (ARRAYS, VALUE):
        (folder / name).unlink()

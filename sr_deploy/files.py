"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sr_deploy.errors import InputError, MachineError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it is renamed to ``path``, on failure removed.

    Raises:
        MachineError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
    except OSError as err:
        raise MachineError(f"{path}: cannot be written ({err.strerror}); choose another folder with -o") from err
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as err:
        raise MachineError(f"{path}: writing failed ({err.strerror or err}); nothing was changed") from err
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file and a rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` as UTF-8 to ``path`` through a temporary file and a rename."""
    write_bytes(path, content.encode())


def read_bytes(path: Path, *, advice: str) -> bytes:
    """Return the content of ``path``; ``advice`` ends the message when it cannot be read.

    Raises:
        InputError: the file is missing, a folder, or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); {advice}") from err


def digest_bytes(content: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal SHA-256 of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def list_pictures(folder: Path) -> list[Path]:
    """Return the picture files directly in ``folder`` and below it, sorted by their path, hidden ones left out.

    Raises:
        InputError: ``folder`` is not a folder or holds no file with a picture's suffix.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; name one that holds pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES and not _hidden(path.relative_to(folder)) and path.is_file()
    ]
    if not found:
        raise InputError(f"{folder}: holds no picture; put {', '.join(sorted(PICTURE_SUFFIXES))} files into it")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current

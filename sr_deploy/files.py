"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sr_deploy.errors import DiskFullError, InputError, MachineError
from sr_deploy.signals import held_signals
from sr_deploy.temporary_files import new_temporary

PICTURE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".jps", ".mpo"),
        *(".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".avif", ".avifs"),
    }
)
CHECKPOINT_SUFFIXES = frozenset(
    {".safetensors", ".pt", ".pth", ".ckpt", ".tar"}
)  # of this project, and of well-known repositories
PRECIOUS = PICTURE_SUFFIXES | CHECKPOINT_SUFFIXES | {".onnx", ".plan", ".toml", ".py"}  # no report is called so
_ASKING = threading.Lock()
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WRONG_NAME = frozenset({errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOENT, errno.ELOOP})


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is called as checkpoints are: ours, and PyTorch's (``.pth``, ``.ckpt``, ``.pth.tar``)."""
    return path.suffix.lower() in CHECKPOINT_SUFFIXES


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it is renamed to ``path``, on failure removed.

    Where ``path`` is a link, the file it points to is replaced. What a killed process leaves of a temporary file,
    :func:`sr_deploy.temporary_files.remove_leftovers` removes.

    Raises:
        InputError: ``path`` cannot be a file: its folder is a file, its name is too long, it is a device.
        DiskFullError: the disk or the user's share of it is full.
        MachineError: the folder cannot be written.
    """
    temporary: Path | None = None
    lock = -1
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.is_symlink():
            raise RuntimeError("a loop of links")  # what Python says by itself before 3.13
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: not a regular file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(os.fsencode(target.name)) > os.pathconf(target.parent, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with held_signals() as asked:  # between making the file and its name there is no place to stop
            temporary, lock = new_temporary(target.parent, path.suffix)
        asked.pass_on()
    except (OSError, RuntimeError) as err:
        reason = "a loop of links" if isinstance(err, RuntimeError) else err.strerror
        raise _kind(err)(f"{path}: cannot be written ({reason}); choose another place") from err
    except BaseException:  # a signal before it is handed out
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(lock)
        raise
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as err:
        full = err.errno in DISK_FULL
        raise (DiskFullError if full else MachineError)(
            f"{path}: writing failed ({err.strerror or err}); nothing was changed"
        ) from err
    finally:
        with suppress(OSError):
            temporary.unlink()
        os.close(lock)


def _kind(err: OSError | RuntimeError) -> type[InputError] | type[MachineError]:
    if isinstance(err, RuntimeError) or err.errno in WRONG_NAME:
        return InputError
    return DiskFullError if err.errno in DISK_FULL else MachineError


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file and a rename; straight into a device or pipe."""
    special = False
    with suppress(OSError):  # a name that cannot be looked up is reported below
        special = path.exists() and not path.is_file() and not path.is_dir()
    if special:
        try:
            path.write_bytes(content)
        except OSError as err:
            raise MachineError(f"{path}: writing failed ({err.strerror or err}); choose another place") from err
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_reports(reports: Mapping[str, Path | None], kept: Iterable[Path | None]) -> None:
    """Check before any work that no report would replace something else.

    Args:
        reports: files to be written, by the option that names them.
        kept: what the command reads and its other results; of a folder, everything in it.

    Raises:
        InputError: a report is one of ``kept``, another report, a folder, standard output (``-``), or an existing file of
            another kind.
    """
    taken = {os.path.realpath(path): f"{path}, which this command needs" for path in kept if path is not None}
    for option, path in reports.items():
        if path is None:
            continue
        if str(path) == "-":
            raise InputError(f"{option} -: standard output is taken; name a file")
        place = os.path.realpath(path)
        if path.is_dir():
            raise InputError(f"{option} {path}: a folder; name a file")
        if place in taken:
            raise InputError(f"{option} {path}: would replace {taken[place]}; name another file")
        if path.is_file() and path.suffix.lower() in PRECIOUS:
            raise InputError(f"{option} {path}: would replace a {path.suffix} file; name another file for the report")
        taken[place] = f"what {option} writes"


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


def cache_folder() -> Path:
    """Return the user's cache folder for this project (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sr-deploy"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _umask() -> int:
    with _ASKING:  # it can only be asked by setting it: two threads at once would set each other's
        current = os.umask(0o022)
        os.umask(current)
    return current

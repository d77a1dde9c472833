"""Standard input and output as picture files, so that ``sr-infer`` fits into a pipe.

What comes in is kept in a file without a name before it is decoded: it is read by its path like every other picture, and nothing
of it is left when the process is killed. What goes out is written when it is complete, so a failure gives no part of a picture.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from sr_deploy.errors import DiskFullError, InputError, MachineError
from sr_deploy.files import DISK_FULL
from sr_deploy.picture_kinds import HEAD, READ, kind_of_content, not_read

STDOUT = Path("/dev/stdout")  # as a place for a result
STDIN_NAME = "standard input"
MAX_BYTES = 2**31  # of a picture that comes from standard input
CHUNK = 2**20
LEAST_HEAD = 18  # bytes that tell a picture from what is none


@contextmanager
def standard_input(*, limit: int = MAX_BYTES) -> Iterator[Path]:
    """Yield the path of a file that holds what comes from standard input; it is gone behind the block.

    Raises:
        InputError: nothing comes, no picture, or more than ``limit`` bytes; or it is a terminal, or closed.
        DiskFullError: the folder for temporary files is full.
    """
    check_standard_input("a picture")
    with _kept(limit) as kept:
        own = Path("/proc/self/fd")
        yield (own if own.is_dir() else Path("/dev/fd")) / str(kept.fileno())


def check_standard_input(what: str) -> None:
    """Check that ``what`` can come from standard input.

    Raises:
        InputError: it is closed or a terminal.
    """
    if sys.__stdin__ is None:
        raise InputError(f"{STDIN_NAME}: is closed; pipe {what} into it")
    if os.isatty(0):
        raise InputError(f"{STDIN_NAME}: is a terminal; pipe {what} into it, or name a file")


def _kept(limit: int) -> BinaryIO:
    try:
        with ExitStack() as stack:
            kept = stack.enter_context(tempfile.TemporaryFile(prefix="sr-"))
            _copy(kept, limit)
            stack.pop_all()
    except OSError as err:
        kind = DiskFullError if err.errno in DISK_FULL else MachineError
        reason = f"cannot be kept in a temporary file ({err.strerror})"
        raise kind(f"{STDIN_NAME}: {reason}; set TMPDIR to a folder with room") from err
    return cast(BinaryIO, kept)


def _copy(kept: IO[bytes], limit: int) -> None:
    size, head = 0, b""
    while part := _read():
        size += len(part)
        if len(head) < CHUNK:
            head += part
            _check_head(head)
        if size > limit:
            raise InputError(f"{STDIN_NAME}: has more than {limit} bytes, which is the limit; name a file instead")
        kept.write(part)
    if not size:
        raise InputError(f"{STDIN_NAME}: is empty; the command before the pipe wrote nothing")
    if size < HEAD:
        _check_head(head, whole=True)
    kept.flush()
    kept.seek(0)


def _check_head(head: bytes, *, whole: bool = False) -> None:
    if not whole and (
        len(head) < LEAST_HEAD or (head[4:8] == b"ftyp" and len(head) < min(HEAD, int.from_bytes(head[:4], "big")))
    ):
        return
    kind = kind_of_content(head)
    if kind and kind not in READ:
        raise not_read(Path(STDIN_NAME), kind)
    if not kind:
        raise InputError(f"{STDIN_NAME}: is no {', '.join(READ[:-1])} or {READ[-1]} picture; check the command before the pipe")


def _read() -> bytes:
    while True:
        try:
            return os.read(0, CHUNK)
        except BlockingIOError:
            select.select([0], [], [])


def check_standard_output() -> None:
    """Check that a picture can go to standard output.

    Raises:
        InputError: it is closed or a terminal.
    """
    if sys.__stdout__ is None:
        raise InputError("standard output: is closed; redirect it into a file")
    if os.isatty(1):
        raise InputError("standard output: is a terminal, which shows no pictures; redirect it, or name a file with -o")


def write_standard_output(content: Iterable[bytes | memoryview]) -> None:
    """Write all parts of ``content`` to standard output.

    Raises:
        BrokenPipeError: nobody reads it.
        MachineError: it cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    for part in content:
        _write(memoryview(part).cast("B"))


def _write(left: memoryview) -> None:
    while left:
        try:
            left = left[os.write(1, left[:CHUNK]) :]
        except BlockingIOError:
            select.select([], [1], [])
        except BrokenPipeError:
            raise
        except OSError as err:
            if err.errno == errno.EINTR:
                continue
            kind = DiskFullError if err.errno in DISK_FULL else MachineError
            raise kind(f"standard output: writing failed ({err.strerror}); check the disk") from err

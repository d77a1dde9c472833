"""What ``--files-from`` reads: names of pictures, one a line or ended by NUL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sr_deploy.errors import InputError
from sr_deploy.runtime.infer.sources import STDIN
from sr_deploy.runtime.pictures.standard_streams import check_standard_input

HEAD = 2**16  # bytes that tell whether a file is a list at all
LONGEST = 4096  # bytes of a path, on Linux
CONTROLS = bytes({*range(1, 32)} - set(b"\t\n\r"))
UTF8, UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # the marks that Windows begins such files with


def names_in(file: str) -> list[str]:
    """Return the names in a file, or in standard input where ``file`` is ``-``; there a name ``-`` is that of a file.

    Raises:
        InputError: the file cannot be read, is no list, or holds no name.
    """
    content = _content(file).removeprefix(UTF8)
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    found = [os.fsdecode(name) for name in names if name.strip()]
    if not found:
        raise InputError(f"--files-from {file}: holds no name; give one a line")
    if any(len(name) > LONGEST for name in names):
        raise _no_list(file, f"a name of {max(map(len, names))} bytes")
    return [f"./{name}" if file == name == STDIN else name for name in found]


def _content(file: str) -> bytes:
    try:
        if file == STDIN:
            check_standard_input("names")
            return _read(file, open(0, "rb", closefd=False))
        return _read(file, Path(file).open("rb"))
    except OSError as err:
        what = f"--files-from {file}: cannot be read ({err.strerror})"
        raise InputError(f"{what}; name a file with a picture's name in each line") from err


def _read(file: str, opened: BinaryIO) -> bytes:
    """Read a list; the rest of what is none is not read, as it may have no end."""
    with opened as stream:
        head = stream.read(HEAD)
        if head.startswith(UTF16):
            raise InputError(f"--files-from {file}: is UTF-16; save it as UTF-8")
        controls = len(head) - len(head.translate(None, CONTROLS))
        if b"\0\0\0" in head or controls > max(16, len(head) // 50):
            raise _no_list(file, "other data")
        return head + stream.read()


def _no_list(file: str, found: str) -> InputError:
    return InputError(
        f"--files-from {file}: is no list of names but {found}; give one name a line, or pictures without the option"
    )

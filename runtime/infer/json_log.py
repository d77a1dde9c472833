"""A log with one line of JSON for each picture, written as the run goes, for programs that watch or resume it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sr_deploy.errors import DiskFullError, InputError, MachineError
from sr_deploy.files import DISK_FULL, WRONG_NAME
from sr_deploy.runtime.infer.outcomes import Outcome
from sr_deploy.strict_json import json_text


class JsonLog:
    r"""Appends to a file: a run that goes on where another was killed goes on in its log; without a file it does nothing.

    Names are as Python holds them: a byte that is no UTF-8 is written as the lone surrogate ``\udc80`` to ``\udcff`` (PEP 383),
    from which ``os.fsencode`` makes the byte again.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file.

        Raises:
            InputError: its name cannot be a file's.
            MachineError: it cannot be written.
        """
        self.path = path
        self.stream: BinaryIO | None = None
        if path is None:
            return
        try:
            self.stream = path.open("ab", buffering=0)
            if _is_cut(path):
                self.stream.write(b"\n")  # behind the line that a killed run left
        except OSError as err:
            kind = InputError if err.errno in WRONG_NAME else MachineError
            raise kind(f"--json-log {path}: cannot be written ({err.strerror or err}); name another file") from err

    def add(self, outcome: Outcome) -> None:
        """Write one line, at once.

        Raises:
            MachineError: the file cannot be written any more.
        """
        if self.stream is None:
            return
        entry = {
            "input": outcome.source,
            "output": outcome.output,
            "status": outcome.status,
            "size": outcome.size,
            "seconds": round(outcome.seconds, 3),
            "error": outcome.error,
            "dropped": outcome.dropped,
        }
        try:
            self._write(json_text(entry, indent=None).encode())
        except OSError as err:
            kind = DiskFullError if err.errno in DISK_FULL else MachineError
            raise kind(f"--json-log {self.path}: writing failed ({err.strerror or err}); the run is stopped") from err

    def _write(self, line: bytes) -> None:
        assert self.stream is not None
        left = memoryview(line)
        while left:
            left = left[self.stream.write(left) or 0 :]

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.stream is not None:
            self.stream.close()


def _is_cut(path: Path) -> bool:
    """Return whether a regular file ends in the middle of a line."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"

"""``sr-infer`` in a process of its own, for tests of streams, signals and limits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]


def command(engine: Path, *arguments: Path | str) -> list[str]:
    """Return the command line of ``sr-infer``."""
    return [
        sys.executable,
        "-m",
        "sr_deploy.runtime.infer.command",
        "--engine",
        str(engine),
        "--threads",
        "1",
        *map(str, arguments),
    ]


def environment() -> dict[str, str]:
    """Return the environment in which it is found from any folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run(
    line: Sequence[str],
    *,
    content: bytes | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with ``content`` or ``stdin`` as its standard input."""
    given = subprocess.PIPE if content is not None else subprocess.DEVNULL if stdin is None else stdin
    with subprocess.Popen(line, stdin=given, stdout=stdout, stderr=subprocess.PIPE, env=environment()) as process:
        out, err = process.communicate(content, timeout=120)
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def error_lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return what was written to standard error."""
    return done.stderr.decode().splitlines()

"""Commands in this process, and what they said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.runtime.infer.command import main


def infer(engine: Path, *arguments: Path | str) -> int:
    """Run ``sr-infer`` with an engine in one thread and return its exit code."""
    return main(["--engine", str(engine), "--threads", "1", *map(str, arguments)])


def error_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on standard error since it was last looked at."""
    return capsys.readouterr().err.splitlines()


def only_line(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """Return the one line that ``command`` wrote on standard error, which is all that was written."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{command}: ")
    assert captured.err.count("\n") == 1
    return captured.err

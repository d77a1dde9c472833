"""How every command behaves at the terminal: one-line errors, exit codes, plain tables, a bar only on a terminal.

Exit codes: 0 done, 1 a check said no, 2 the caller's mistake, 3 the machine failed, 130 interrupted.
Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, Protocol

from sr_deploy import __version__
from sr_deploy.errors import MachineError, SrDeployError

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "failed to allocate memory", "storage size calculation overflowed")


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose mistakes are one line, and which knows ``--version``."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def positive_int(text: str) -> int:
    """Return ``text`` as an integer of at least 1, for ``type=`` of an argument."""
    return _whole(text, 1)


def thread_count(text: str) -> int:
    """Return ``text`` as a number of threads, 1 to 256, for ``type=`` of an argument: more take minutes to start."""
    return _whole(text, 1, 256)


def worker_count(text: str) -> int:
    """Return ``text`` as a number of helping threads, 0 to 256, for ``type=`` of an argument."""
    return _whole(text, 0, 256)


def natural_int(text: str) -> int:
    """Return ``text`` as an integer of at least 0, for ``type=`` of an argument."""
    return _whole(text, 0)


def _whole(text: str, least: int, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    if most is not None and value > most:
        raise argparse.ArgumentTypeError(f"{text} is more than {most}")
    return value


def positive_float(text: str) -> float:
    """Return ``text`` as a finite number above 0, for ``type=`` of an argument."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def run(prog: str, command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; an expected failure becomes one line on standard error."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a file name that is not UTF-8 must not end a run
        code = command()
        sys.stdout.flush()
        return code
    except SrDeployError as err:
        print(f"{prog}: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that SIGPIPE ended
    except OSError as err:
        print(f"{prog}: {err.filename or 'input or output'}: {err.strerror or err}; check the name and the disk", file=sys.stderr)
        return 3
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not any(sign in str(err).lower() for sign in OUT_OF_MEMORY):
            raise
        print(f"{prog}: out of memory; use a smaller picture, batch, tile or network", file=sys.stderr)
        return 3


@contextmanager
def missing_package(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that names the extra to install.

    Raises:
        MachineError: a package of ``extra`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        raise MachineError(f"package {err.name} is not installed; pip install 'sr-deploy[{extra}]'") from err


def table(rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Return ``rows`` (the first is the heading) as aligned text: first column left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if number == 0:
            rule = ["-" * w for w in widths]
            marks = [rule[0], *(r[:-1] + ":" for r in rule[1:])]
            lines.append("| " + " | ".join(marks) + " |" if markdown else "  ".join(rule))
    return "\n".join(lines)


class Advance(Protocol):
    """Moves a bar on by ``by`` steps; ``text`` replaces what stands beside it."""

    def __call__(self, text: str = "", *, by: int = 1) -> None: ...


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show a bar on standard error when it is a terminal; the yielded function advances it."""
    if not sys.stderr.isatty():
        yield lambda text="", *, by=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def advance(text: str = "", *, by: int = 1) -> None:
            bar.update(task, advance=by, description=text or label)

        yield advance

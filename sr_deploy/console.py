"""How every command behaves at the terminal: one-line errors, exit codes, plain tables, a bar only on a terminal.

Exit codes: 0 done, 1 a check said no, 2 the caller's mistake, 3 the machine failed, 130 interrupted.
Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from sr_deploy import __version__
from sr_deploy.errors import MachineError, SrDeployError
from sr_deploy.files import WRONG_NAME

NATIVE_SUMS = "compute int8 as this processor does: without VNNI its sums saturate (default: exact, the same on all)"
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")  # of --provider
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


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the process to end; it is obeyed in the same orderly way."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def run(prog: str, command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; an expected failure becomes one line on standard error."""
    with open_streams(), stop_signals() as received:
        try:
            code = command()
            sys.stdout.flush()
            return stopped(prog, received[0]) if received else code
        except KeyboardInterrupt as err:
            return stopped(prog, err.number if isinstance(err, Stopped) else signal.SIGINT)
        except Exception as err:
            if received:  # a library turned the signal into an error of its own, as extension modules do while they are imported
                return stopped(prog, received[0])
            return failure_of(prog, err)


def stopped(prog: str, number: int) -> int:
    """Say that a signal ended the command and return the exit code."""
    return failed(prog, "interrupted" if number == signal.SIGINT else "terminated", 128 + number)


def failure_of(prog: str, error: Exception) -> int:
    """Say what went wrong in one line and return the exit code; what is not expected is raised again."""
    try:
        raise error
    except SrDeployError as err:
        return failed(prog, str(err), err.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that SIGPIPE ended
    except OSError as err:
        what = f"{err.filename or 'input or output'}: {err.strerror or err}; check the name and the disk"
        return failed(prog, what, 2 if err.errno in WRONG_NAME else 3)
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not any(sign in str(err).lower() for sign in OUT_OF_MEMORY):
            raise
        return failed(prog, "out of memory; use a smaller picture, batch, tile or network", 3)


def failed(prog: str, message: str, code: int) -> int:
    """Print one line on standard error, whatever a file's name holds, and return ``code``; a full stream is no matter."""
    with suppress(OSError, ValueError):
        print(f"{prog}: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def one_line(text: str) -> str:
    """Return ``text`` with line breaks and other control characters written as escapes: names of files may hold them."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


@contextmanager
def open_streams() -> Iterator[None]:
    """Give the block standard streams it can write to: a closed one swallows, a name that is not UTF-8 is escaped."""
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    with ExitStack() as stack:
        for name in closed:
            setattr(sys, name, stack.enter_context(Path(os.devnull).open("w")))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            yield
        finally:
            for name in closed:
                setattr(sys, name, None)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into :class:`Stopped` inside the block, so that nothing half-written stays.

    The yielded list holds the signals that came, for the case that a library swallows the exception.
    """
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise Stopped(number)

    main = threading.current_thread() is threading.main_thread()
    usual = (signal.SIG_DFL, signal.default_int_handler)  # what somebody else set stays
    previous = {n: signal.getsignal(n) for n in (signal.SIGINT, *STOP_SIGNALS) if main and signal.getsignal(n) in usual}
    for number in previous:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def missing_package(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that names the extra to install.

    Raises:
        MachineError: a package of ``extra`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        either = "'sr-deploy[cpu]', or 'sr-deploy[cuda]' for onnxruntime-gpu"  # no other extra may bring one of the two
        needed = either if err.name == "onnxruntime" else f"'sr-deploy[{extra}]'"
        raise MachineError(f"package {err.name} is not installed; pip install {needed}") from err


def table(rows: Sequence[Sequence[str]], *, markdown: bool = False, left: int = 1) -> str:
    """Return ``rows`` (the first is the heading) as aligned text: the first ``left`` columns left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells).rstrip())
        if number == 0:
            rule = ["-" * w for w in widths]
            marks = [*rule[:left], *(r[:-1] + ":" for r in rule[left:])]
            lines.append("| " + " | ".join(marks) + " |" if markdown else "  ".join(rule))
    return "\n".join(lines)


class Advance(Protocol):
    """Moves a bar on by ``by`` steps; ``text`` replaces what stands beside it."""

    def __call__(self, text: str = "", *, by: int = 1) -> None: ...


@contextmanager
def progress(label: str, total: int, *, rate: str | None = None) -> Iterator[Advance]:
    """Show a bar on standard error when it is a terminal; the yielded function advances it.

    ``rate`` is the unit of the steps in a second, such as ``pictures/s``, if they are to be shown.
    """
    if not sys.stderr.isatty():
        yield lambda text="", *, by=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class RateColumn(TextColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if rate is None or speed is None else f"{speed:.3g} {rate}")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *([] if rate is None else [RateColumn("")]),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Unless both are terminals, what is printed to standard output must not go to the bar's console.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(label, total=total)

        def advance(text: str = "", *, by: int = 1) -> None:
            bar.update(task, advance=by, description=one_line(text or label))

        yield advance

"""How every command behaves at the terminal: one-line errors, exit codes, plain tables, a bar only on a terminal.

Exit codes: 0 done, 1 a check said no, 2 the caller's mistake, 3 the machine failed, 130 interrupted.
Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sr_deploy.errors import MachineError, SrDeployError
from sr_deploy.files import WRONG_NAME
from sr_deploy.notes import printed_notes
from sr_deploy.progress import bars
from sr_deploy.signals import Stopped, stop_signals

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "failed to allocate memory", "storage size calculation overflowed")


def run(prog: str, command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; an expected failure becomes one line on standard error, as notes do."""
    with open_streams(), printed_notes(prog), bars(), stop_signals() as received:
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

"""What a stage has to say beside its result, such as a picture that was left out: messages of the logger ``sr_deploy``.

Called from Python, nothing is printed; ``logging`` shows them to those who ask. A command prints them (:func:`printed_notes`):
``NOTES`` on standard error, and on standard output ``LINES``, what it reports of each step as it is done.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOTES = logging.getLogger("sr_deploy")
NOTES.addHandler(logging.NullHandler())  # else Python prints warnings that nobody asked for
NOTES.setLevel(logging.INFO)
LINES = logging.getLogger("sr_deploy.lines")


class _OnStandardError(logging.Handler):
    def __init__(self, prog: str) -> None:
        super().__init__()
        self.prog = prog

    def emit(self, record: logging.LogRecord) -> None:
        from sr_deploy.console import one_line  # it imports this module

        prefix = f"{self.prog}: warning: " if record.levelno >= logging.WARNING else ""
        with suppress(OSError, ValueError):  # a full or closed stream ends nothing
            print(prefix + one_line(record.getMessage()), file=sys.stderr, flush=True)


class _OnStandardOutput(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)  # nobody reads it any more: that ends the command, as for any other


@contextmanager
def printed_notes(prog: str) -> Iterator[None]:
    """Print the notes of this block on standard error and its lines on standard output; warnings begin with ``prog``."""
    notes, lines = _OnStandardError(prog), _OnStandardOutput()
    notes.addFilter(lambda record: record.name != LINES.name)
    NOTES.addHandler(notes)
    LINES.addHandler(lines)
    try:
        yield
    finally:
        NOTES.removeHandler(notes)
        LINES.removeHandler(lines)

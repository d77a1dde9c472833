"""What a stage has to say beside its result, such as a picture that was left out: messages of the logger ``sr_deploy``.

Called from Python, nothing is printed; ``logging`` shows them to those who ask. A command prints them (:func:`printed_notes`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOTES = logging.getLogger("sr_deploy")
NOTES.addHandler(logging.NullHandler())  # else Python prints warnings that nobody asked for
NOTES.setLevel(logging.INFO)


class _OnStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        with suppress(OSError, ValueError):  # a full or closed stream ends nothing
            print(prefix + record.getMessage(), file=sys.stderr, flush=True)


@contextmanager
def printed_notes() -> Iterator[None]:
    """Print the notes of this block on standard error, a line each."""
    handler = _OnStandardError()
    NOTES.addHandler(handler)
    try:
        yield
    finally:
        NOTES.removeHandler(handler)

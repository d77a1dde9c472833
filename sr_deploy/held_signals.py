"""Signals that wait until a piece of work is in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """The signals that came, and what they are given to in the end."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.before: dict[int, Callable[[int, FrameType | None], object]] = {}

    def obey(self) -> None:
        """Do what the first signal does elsewhere, if one came: end the run."""
        if self.numbers:
            self.before[self.numbers[0]](self.numbers[0], None)


@contextmanager
def held_signals() -> Iterator[Asked]:
    """Keep the first Ctrl-C, SIGTERM or SIGHUP for later inside the block, so that no frame is lost between encoder and file.

    The second one is obeyed at once. Only signals that something in Python answers are held, and only in the main thread.
    """
    asked = Asked()

    def hold(number: int, frame: FrameType | None) -> None:
        asked.numbers.append(number)
        if len(asked.numbers) > 1:
            asked.before[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))):
            handler = signal.getsignal(number)
            if callable(handler):
                asked.before[number] = handler
                signal.signal(number, hold)
    try:
        yield asked
    finally:
        for number, handler in asked.before.items():
            signal.signal(number, handler)

"""Ctrl-C, SIGTERM and SIGHUP: they end a command in order, or wait until a piece of work is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the process to end; it is obeyed in the same orderly way."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


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


class HeldSignals:
    """The signals that came while they were held."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def obey(self) -> None:
        """End the run if a signal came.

        Raises:
            Stopped: with the first signal's number.
        """
        if self.numbers:
            raise Stopped(self.numbers[0])

    def pass_on(self) -> None:
        """Hand the signals that came to what handles them outside the block."""
        for number in self.numbers:
            signal.raise_signal(number)


@contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Keep the first Ctrl-C, SIGTERM or SIGHUP inside the block for ``obey``: a training step or a video frame is finished first.

    The second one raises :class:`Stopped` at once. Ignored signals stay ignored. Only the main thread can hold signals.
    """
    held = HeldSignals()

    def hold(number: int, _frame: FrameType | None) -> None:
        held.numbers.append(number)
        if len(held.numbers) > 1:
            raise Stopped(number)

    main = threading.current_thread() is threading.main_thread()
    previous = {n: signal.getsignal(n) for n in (signal.SIGINT, *STOP_SIGNALS) if main and signal.getsignal(n) != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, hold)
    try:
        yield held
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

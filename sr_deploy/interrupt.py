"""Ctrl-C between two steps, never inside one: a step taken halfway could not be resumed to the bit."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from sr_deploy.console import STOP_SIGNALS, Stopped


class Interrupt:
    """While entered, the first Ctrl-C, SIGTERM or SIGHUP is only noted, for ``check`` to raise; a second one acts at once."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOP_SIGNALS):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if the run was asked to end."""
        if self.asked is not None:
            raise Stopped(self.asked)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            raise Stopped(number)
        self.asked = number

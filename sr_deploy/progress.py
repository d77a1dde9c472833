"""How far a piece of work has come: a bar on the terminal of a command, a callback of whoever calls from Python, else nothing.

Whoever works says so by :func:`progress` and does not know who looks: a command shows bars (:func:`bars`), a function of the
Python API hands its ``progress`` argument on (:func:`progress_to`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Step:
    """Where a piece of work stands."""

    label: str  # what is done, or what it is done to just now
    done: int
    total: int


OnStep = Callable[[Step], None]


class Advance(Protocol):
    """Moves a bar on by ``by`` steps; ``text`` replaces what stands beside it."""

    def __call__(self, text: str = "", *, by: int = 1) -> None: ...


Show = Callable[[str, int, str | None], AbstractContextManager[Advance]]


@contextmanager
def _nothing(label: str, total: int, rate: str | None) -> Iterator[Advance]:
    yield lambda text="", *, by=1: None


_SHOWN: ContextVar[Show] = ContextVar("shown", default=_nothing)


def progress(label: str, total: int, *, rate: str | None = None) -> AbstractContextManager[Advance]:
    """Return what tells whoever looks that ``total`` steps of work begin; the function that it yields advances it.

    ``rate`` is the unit of the steps in a second, such as ``pictures/s``, if they are to be shown.
    """
    return _SHOWN.get()(label, total, rate)


@contextmanager
def progress_to(on_step: OnStep | None) -> Iterator[None]:
    """Call ``on_step`` with every step of the work in this block; with ``None`` it goes on as outside the block."""
    if on_step is None:
        yield
        return
    call = on_step

    @contextmanager
    def show(label: str, total: int, rate: str | None) -> Iterator[Advance]:
        done = 0

        def advance(text: str = "", *, by: int = 1) -> None:
            nonlocal done
            done += by
            call(Step(text or label, done, total))

        yield advance

    with _showing(show):
        yield


@contextmanager
def bars() -> Iterator[None]:
    """Show the work of this block as bars on standard error where it is a terminal."""
    with _showing(_bar):
        yield


@contextmanager
def _showing(show: Show) -> Iterator[None]:
    token = _SHOWN.set(show)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def _bar(label: str, total: int, rate: str | None) -> Iterator[Advance]:
    if not sys.stderr.isatty():
        with _nothing(label, total, rate) as advance:
            yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    from sr_deploy.console import one_line

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

"""A progress bar on standard error, drawn only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sr_deploy.console import one_line


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

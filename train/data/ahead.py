"""Work of threads, in order, a bounded number of steps ahead of who takes it: ``Executor.map`` would do all of it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def map_ahead(pool: Executor, make: Callable[[Given], Made], items: Iterable[Given], *, ahead: int) -> Iterator[Made]:
    """Yield what ``make`` makes of each of ``items``, in their order, while ``pool`` works on the next ``ahead``."""
    queue: deque[Future[Made]] = deque()
    for item in items:
        queue.append(pool.submit(make, item))
        if len(queue) > ahead:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()

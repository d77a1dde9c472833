"""Stages that overlap: generators that run ahead of their readers, each in a thread of its own, but never far.

Decoding, colour, the engine and encoding of a run are generators, each reading the one before. Between two that run in threads,
a bounded queue stands: when it is full, the faster stage waits for the slower.

When a run ends early, every thread is waited for, whatever signals come, because the engine is freed next. Only a stage that
may hang for ever, in a read that never ends, is left behind after a few seconds; it must hold nothing that is freed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.05  # how soon a thread that waits sees that it is to stop
PATIENCE_S = 3.0


class Stages:
    """The threads of one run; leaving the block ends them all, wherever they are."""

    def __init__(self, *, overlap: bool) -> None:
        """Remember whether stages overlap at all."""
        self.overlap = overlap
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.ended: dict[threading.Event, bool] = {}  # of each thread, and whether it may hang

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop.set()
        interrupted: KeyboardInterrupt | None = None
        deadline = time.monotonic() + PATIENCE_S
        # Events, not join: an interrupted join takes a running thread for ended, up to Python 3.12.
        for ended, may_hang in self.ended.items():
            while not ended.is_set() and not (may_hang and time.monotonic() > deadline):
                try:
                    ended.wait(POLL_S)
                except KeyboardInterrupt as err:
                    interrupted = err
        if interrupted is not None:
            raise interrupted

    def ahead(self, source: Generator[T, None, None], *, depth: int = 2, may_hang: bool = False) -> Iterator[T]:
        """Return the items of ``source``, made in a thread ahead of the reader; what it raises is raised to the reader.

        Args:
            source: a stage.
            depth: how many items may wait for the reader.
            may_hang: whether the stage may wait for something that never comes, and uses nothing that is freed behind the block.
        """
        if not self.overlap:
            return source
        items: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(depth)
        ended = threading.Event()
        thread = threading.Thread(target=self._work, args=(source, items, ended), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads for this process: this stage takes turns with its reader
            return source
        self.threads.append(thread)
        self.ended[ended] = may_hang
        return self._items(items)

    def _items(self, items: queue.Queue[tuple[list[T], BaseException | None]]) -> Iterator[T]:
        while not self.stop.is_set():
            try:
                found, error = items.get(timeout=POLL_S)
            except queue.Empty:
                continue
            yield from found
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error

    def _work(
        self, source: Generator[T, None, None], items: queue.Queue[tuple[list[T], BaseException | None]], ended: threading.Event
    ) -> None:
        try:
            for item in source:
                if not self._put(items, ([item], None)):
                    return
            self._put(items, ([], StopIteration()))
        except BaseException as err:
            self._put(items, ([], err))
        finally:
            source.close()
            ended.set()

    def _put(self, items: queue.Queue[tuple[list[T], BaseException | None]], entry: tuple[list[T], BaseException | None]) -> bool:
        while not self.stop.is_set():
            try:
                items.put(entry, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False


class StageTimes:
    """Seconds in each stage, waiting for a core included; each stage is added to from one thread only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.began = time.perf_counter()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    @property
    def wall_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items()) + f"; wall {self.wall_s:.2f} s"


class Budget:
    """Bytes that may be held at once; what is larger than all of them is let through beside little else.

    ``small`` is that little: so much may be held by what waits for others, which would otherwise wait for it.
    """

    def __init__(self, limit: int, stop: threading.Event) -> None:
        self.limit, self.stop, self.used = limit, stop, 0
        self.small = limit // 8
        self.changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes are free or no more than ``small`` are held, or until everything ends."""
        with self.changed:
            while self.used > self.small and self.used + size > self.limit and not self.stop.is_set():
                self.changed.wait(POLL_S)
            self.used += size

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        with self.changed:
            self.used -= size
            self.changed.notify_all()

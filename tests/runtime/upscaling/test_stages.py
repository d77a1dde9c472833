"""Stages that overlap: order, errors, back-pressure, and that every thread ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from itertools import count

import pytest

from sr_deploy.runtime.upscaling import stages as stages_module
from sr_deploy.runtime.upscaling.stages import Budget, Stages, StageTimes


def counted(n: int, log: list[int] | None = None, *, fail: int = -1) -> Generator[int, None, None]:
    for i in range(n):
        if i == fail:
            raise ValueError(f"item {i}")
        if log is not None:
            log.append(i)
        yield i


def all_ended(stages: Stages) -> bool:
    """Return whether every thread has done its work; the very last of it may still be under way."""
    for thread in stages.threads:
        thread.join(5)
    return all(ended.is_set() for ended in stages.ended) and not any(thread.is_alive() for thread in stages.threads)


def doubled(source: Iterator[int]) -> Generator[int, None, None]:
    for i in source:
        yield 2 * i


@pytest.mark.parametrize("overlap", [True, False])
def test_items_come_in_order_through_several_stages(overlap: bool) -> None:
    with Stages(overlap=overlap) as stages:
        assert list(stages.ahead(doubled(stages.ahead(doubled(stages.ahead(counted(50))))))) == [4 * i for i in range(50)]
        assert len(stages.threads) == (3 if overlap else 0)
    assert all_ended(stages)


@pytest.mark.parametrize("overlap", [True, False])
def test_an_error_reaches_the_reader_behind_what_came_before_it(overlap: bool) -> None:
    found = []
    with pytest.raises(ValueError, match="item 3"), Stages(overlap=overlap) as stages:
        for item in stages.ahead(doubled(stages.ahead(counted(9, fail=3)))):
            found.append(item)
    assert found == [0, 2, 4]
    assert all_ended(stages)


def test_a_stage_waits_when_it_is_too_far_ahead() -> None:
    made, read, ahead = 0, 0, [0]
    far = threading.Event()

    def counting() -> Generator[int, None, None]:
        nonlocal made
        for made in range(1, 101):
            ahead.append(made - read)
            if made == 4:
                far.set()
            yield made

    with Stages(overlap=True) as stages:
        reader = iter(stages.ahead(counting(), depth=2))
        assert next(reader) == 1
        assert far.wait(30.0)  # one was read, two wait in the queue, one is in the hand
        for read in range(2, 101):
            assert next(reader) == read
    assert 3 <= max(ahead) <= 4  # one more while it is handed over


def test_leaving_early_ends_every_thread_and_closes_its_source() -> None:
    closed = []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread())

    with Stages(overlap=True) as stages:
        assert next(iter(stages.ahead(doubled(stages.ahead(endless()))))) == 2
    assert len(closed) == 1 and all_ended(stages)


def test_a_thread_is_waited_for_whatever_signals_come(monkeypatch: pytest.MonkeyPatch) -> None:
    finished, calls = [], count()
    leave = threading.Event()

    def slow() -> Generator[int, None, None]:
        yield 1
        assert leave.wait(30.0)
        finished.append("used the engine to the end")
        yield 2

    def interrupted(timeout: float) -> bool:
        if next(calls) < 3:
            os.kill(os.getpid(), signal.SIGINT)
        leave.set()
        return wait(timeout)

    with pytest.raises(KeyboardInterrupt), Stages(overlap=True) as stages:
        assert next(iter(stages.ahead(slow()))) == 1
        (ended,) = stages.ended
        wait = ended.wait
        monkeypatch.setattr(ended, "wait", interrupted)
    assert finished == ["used the engine to the end"] and next(calls) > 3


def test_a_stage_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "PATIENCE_S", 0.2)
    leave = threading.Event()

    def stuck() -> Generator[int, None, None]:
        yield 1
        leave.wait(20)

    began = time.monotonic()
    with Stages(overlap=True) as stages:
        assert next(iter(stages.ahead(stuck(), may_hang=True))) == 1
    assert time.monotonic() - began < 10 and stages.threads[0].is_alive()
    leave.set()
    stages.threads[0].join()


def test_a_thread_that_cannot_start_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Stages(overlap=True) as stages:
        assert list(stages.ahead(doubled(stages.ahead(counted(3))))) == [0, 2, 4]


def test_a_budget_holds_back_until_there_is_room_but_never_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    stop = threading.Event()
    held_back = {0: threading.Event(), 1: threading.Event()}
    budget = Budget(10, stop)
    wait = budget.changed.wait

    def noted(timeout: float) -> bool:
        held_back[len(log)].set()
        return wait(timeout)

    monkeypatch.setattr(budget.changed, "wait", noted)
    budget.take(25)  # alone

    def work() -> None:
        budget.take(6)
        log.append("in")
        budget.take(6)
        log.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    assert held_back[0].wait(30.0) and log == []
    budget.give(25)
    assert held_back[1].wait(30.0) and log == ["in"]
    stop.set()
    thread.join(timeout=30)
    assert log == ["in", "stopped"]


def test_the_times_of_stages_are_said_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", count().__next__)  # every look at the clock is a second later
    times = StageTimes()
    for stage in ("decode", "engine", "decode"):
        with times.of(stage):
            pass
    assert times.seconds == {"decode": 2, "engine": 1}
    assert str(times) == "decode 2.00 s, engine 1.00 s; wall 7.00 s"

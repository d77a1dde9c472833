"""Stages that overlap: order, errors, back-pressure, and that every thread ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from sr_deploy.runtime.upscaling import pipeline
from sr_deploy.runtime.upscaling.pipeline import Budget, Stages, StageTimes


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
    log: list[int] = []
    with Stages(overlap=True) as stages:
        reader = iter(stages.ahead(counted(100, log), depth=2))
        assert next(reader) == 0
        time.sleep(0.3)
        assert len(log) <= 5  # two wait in the queue, one is in the hand, one was read
        assert list(reader) == list(range(1, 100))


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


def test_a_thread_is_waited_for_whatever_signals_come() -> None:
    finished = []

    def slow() -> Generator[int, None, None]:
        yield 1
        time.sleep(1.0)
        finished.append("used the engine to the end")
        yield 2

    signals = [threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT)) for delay in (0.2, 0.4, 0.6)]
    with pytest.raises(KeyboardInterrupt), Stages(overlap=True) as stages:
        assert next(iter(stages.ahead(slow()))) == 1
        for timer in signals:
            timer.start()
    assert finished == ["used the engine to the end"]
    for timer in signals:
        timer.join()


def test_a_stage_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PATIENCE_S", 0.2)
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


def test_a_budget_holds_back_until_there_is_room_but_never_for_ever() -> None:
    stop, log = threading.Event(), []
    budget = Budget(10, stop)
    budget.take(25)  # alone

    def work() -> None:
        budget.take(6)
        log.append("in")
        budget.take(6)
        log.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.15)
    assert log == []
    budget.give(25)
    time.sleep(0.15)
    assert log == ["in"]
    stop.set()
    thread.join(timeout=5)
    assert log == ["in", "stopped"]


def test_the_times_of_stages_are_said_apart() -> None:
    times = StageTimes()
    for stage in ("decode", "engine", "decode"):
        with times.of(stage):
            time.sleep(0.01)
    assert set(times.seconds) == {"decode", "engine"} and times.seconds["decode"] >= 0.02 <= times.wall_s
    assert str(times).startswith("decode 0.0") and "; wall " in str(times)

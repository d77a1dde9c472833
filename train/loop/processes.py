"""The other processes of a run on several devices: started, met, watched and ended.

The process that calls :func:`together` is process 0 and stays what it was: its terminal, its reporter, its arguments. The others
are new interpreters (``multiprocessing``'s *spawn*) that are handed the run itself. Launchers of others do not fit a command.
torchrun (torch 2.13) makes process 0 a child, whose reports and errors reach the caller as text, says 45 lines where a process
fails, and leaves its processes running when it is killed. Fabric's *spawn* has a child as process 0 too; its script launcher
repeats ``sys.argv``, which is another program's where a run is started from Python. So Fabric finds its processes
started already (:class:`~sr_deploy.train.loop.devices.Neighbours`).

They meet in a file, so no port and no environment variable is needed. Process 0 decides about everything that is not
computed: signals do not reach the others, and they end when it does, however it ends. A script that trains on several
devices needs ``if __name__ == "__main__":``, as for every spawned process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn, cast

import torch
import torch.distributed as dist

from sr_deploy.errors import MachineError, SrDeployError
from sr_deploy.signals import STOP_SIGNALS
from sr_deploy.train.loop.devices import Place, resolve_device
from sr_deploy.train.loop.handover import forget, hand_over, receive

LONGEST_PAUSE = timedelta(days=1)  # while process 0 validates and saves, the others wait for it
PATIENCE_S = 10.0  # for the word of a process that failed, and for the others to finish after process 0


class Team:
    """All processes of a run, as one of them sees them."""

    def __init__(self, place: Place, control: dist.ProcessGroup | None = None) -> None:
        self.place, self._control = place, control

    def agree(self, value: float) -> float:
        """Return process 0's ``value``; every process calls this equally often."""
        if self._control is None:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, src=0, group=self._control)
        return float(shared)


@dataclass(frozen=True)
class Order:
    """What another process is to do: ``entry(task, team)``."""

    entry: Callable[[object, Team], None]  # a function of a module
    task: object
    device: str
    threads: int


@contextmanager
def together(entry: Callable[[object, Team], None], task: object, *, count: int, device: str) -> Iterator[Team]:
    """Run ``entry(task, team)`` in processes 1 to ``count`` - 1 while the block runs in process 0, with as many threads each.

    Raises:
        MachineError: another process died, and took the block with it.
        SrDeployError: what ended another process first.
    """
    if count == 1:
        yield Team(Place())
        return
    with tempfile.TemporaryDirectory(prefix="sr-train-") as name:
        folder = Path(name)
        hand_over(Order(entry, task, device, torch.get_num_threads()), folder)
        with _start_others(folder, count) as others:
            try:
                _take_device(device, 0)
                yield _meet(folder, Place(0, count), device)
            except RuntimeError as err:  # what a collective says when a process is gone
                cause = None if isinstance(err, torch.OutOfMemoryError) else _cause(others)
                if cause is None:
                    raise
                raise cause from err
            else:
                for other in others:
                    other.process.join(PATIENCE_S)
            finally:
                for other in others:  # before leaving the group: a living one may hold it up
                    other.process.kill()
                if dist.is_initialized():
                    dist.destroy_process_group()


@dataclass(frozen=True)
class Other:
    """Another process, and what it says."""

    process: SpawnProcess
    connection: Connection


@contextmanager
def _start_others(folder: Path, count: int) -> Iterator[list[Other]]:
    """Start the others, and yield them once each has what it needs; none is left when the block ends."""
    others: list[Other] = []
    try:
        with _block_signals():
            others.extend(_start(folder, Place(rank, count)) for rank in range(1, count))
        for other in others:
            try:
                received = other.connection.recv()
            except EOFError as err:
                other.process.join(PATIENCE_S)
                raise MachineError(f"{other.process.name} did not start (exit code {other.process.exitcode})") from err
            if received is not None:
                raise cast(Exception, received)
        forget(folder)
        yield others
    finally:
        for other in others:
            other.process.kill()
            other.process.join()
            other.connection.close()


def _start(folder: Path, place: Place) -> Other:
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_work, args=(folder, place, far), name=f"process {place.rank} of {place.count}")
    process.start()
    far.close()
    return Other(process, near)


@contextmanager
def _block_signals() -> Iterator[None]:
    """Block what asks to end, for this block and the processes started in it: a terminal's Ctrl-C is for process 0."""
    resource_tracker.ensure_running()  # it unblocks them when it starts, which it would do inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *STOP_SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_device(device: str, rank: int) -> None:
    if resolve_device(device) == "cuda":
        torch.cuda.set_device(rank)


def _meet(folder: Path, place: Place, device: str) -> Team:
    """Return the team once all processes are here."""
    backend = "cpu:gloo,cuda:nccl" if resolve_device(device) == "cuda" else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{folder / 'meeting'}", rank=place.rank, world_size=place.count, timeout=LONGEST_PAUSE
    )
    return Team(place, dist.new_group(backend="gloo", timeout=LONGEST_PAUSE))


def _work(folder: Path, place: Place, connection: Connection) -> None:
    """Do the part of one process; what goes wrong is sent to process 0, which reports it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        order = cast(Order, receive(folder))
        torch.set_num_threads(order.threads)
        _take_device(order.device, place.rank)
        connection.send(None)
        order.entry(order.task, _meet(folder, place, order.device))
        dist.destroy_process_group()
    except SrDeployError as err:
        _tell(connection, err)
    except Exception:  # whatever it is, process 0 has the terminal
        _tell(connection, RuntimeError(f"process {place.rank} of {place.count} failed:\n{traceback.format_exc()}"))


def _tell(connection: Connection, error: Exception) -> NoReturn:
    with suppress(OSError):  # process 0 is gone
        connection.send(error)
    sys.exit(1)


def _end_with_parent() -> None:
    """End this process when process 0 is gone, even killed, and whatever is being waited for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cause(others: list[Other]) -> Exception | None:
    """Return what ended another process, or None where all are well; one that lost a neighbour tells less than the neighbour."""
    wait([other.process.sentinel for other in others], PATIENCE_S)
    causes = [cause for cause in map(_end_of, others) if cause is not None]
    return min(causes, key=lambda cause: isinstance(cause, RuntimeError), default=None)


def _end_of(other: Other) -> Exception | None:
    other.process.join(1.0)
    if other.connection.poll():
        with suppress(EOFError):
            return cast(Exception, other.connection.recv())
    code = other.process.exitcode
    if code is None:
        return None
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return MachineError(f"{other.process.name} {how}; what was saved before is kept, continue it with --resume")

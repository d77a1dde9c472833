"""Many pictures through one engine: decoding, colour, the engine and encoding as stages that overlap.

Each stage is a generator over the one before it. On a GPU every stage runs in a thread of its own, so that a folder takes the
time of its slowest stage; on a CPU, where the engine takes all cores, they take turns. Results come in the order of the pictures,
and a picture that fails holds no other up.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.files import replacing
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.infer.claims import Claims
from sr_deploy.runtime.large.large_picture import LargePicture, Memory, Watch
from sr_deploy.runtime.pictures.encode import Content, encode, not_kept
from sr_deploy.runtime.pictures.formats import FOLLOWING, Writing, check_holds, format_of_name, format_of_result
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import PictureFile
from sr_deploy.runtime.pictures.standard_streams import STDOUT, write_standard_output
from sr_deploy.runtime.upscaling.pipeline import EXPECTED, Passage, through_engine
from sr_deploy.runtime.upscaling.stages import Budget, Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.upscaling.upscaling import FramesUpscaling, Upscaling

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
MOST_BYTES = 2**30  # pictures and results held at once, where there are several


@dataclass
class Task(Passage):
    """One picture file on its way."""

    source: Path
    output: Path
    picture: Picture | None = None
    work: Upscaling | FramesUpscaling | None = None
    large: LargePicture | None = None  # instead: read, enlarged and written by rows
    by_rows: Callable[[Task], None] | None = None  # does so
    kind: str = ""  # the format of the result
    content: Content = ()  # of the result's file
    error: SrDeployError | MemoryError | OSError | None = None
    frames: int = 1  # in the file
    frames_advice: str = ""  # how to get all of them
    others: int = 0  # further pictures in the file, which are not enlarged
    dropped: tuple[str, ...] = ()  # what of the file's other contents its result has not, in words
    jpeg_quality: int | None = None  # that a JPEG was saved with
    held: int = 0  # bytes of the budget
    part: float = 0.0  # that is computed, 0 to 1
    skipped: bool = False  # its result was there already
    claimed: bool = False  # another run makes its result
    size: tuple[int, int] | None = None  # width and height of the result
    began: float = 0.0  # when it was its turn to be read, by time.perf_counter
    seconds: float = 0.0  # from then until it was done; other pictures were on their way too

    @property
    def alive(self) -> bool:
        """Whether nothing went wrong."""
        return self.error is None

    def contains(self, picture: Picture, scale: int, frames_advice: str) -> None:
        """Keep what there is to be told of a picture."""
        self.size, self.frames_advice = (picture.pixels.shape[1] * scale, picture.pixels.shape[0] * scale), frames_advice
        self.frames, self.jpeg_quality, self.others = picture.frames, picture.jpeg_quality, picture.beside.others
        self.dropped = not_kept(self.kind, picture)

    def bands(self) -> Iterator[Band]:
        """See :class:`Passage`."""
        return iter(()) if self.work is None else self.work.bands()

    def put(self, band: Band, output: Tiles) -> None:
        """See :class:`Passage`."""
        assert self.work is not None
        self.part = self.work.put(band, output)

    def computed(self) -> None:
        """Go by rows, where that is the way: the stage that has the engine does all of it."""
        if self.by_rows is not None and self.alive:
            self.by_rows(self)

    def failed(self, error: SrDeployError | MemoryError | OSError) -> None:
        """Keep the first error without the frames it passed: they hold the picture and its result."""
        error.__cause__ = error.__context__ = None
        self.error = self.error or error.with_traceback(None)


@dataclass(frozen=True)
class FolderRun:
    """How pictures go through an engine."""

    engine: Engine
    scale: int
    overwrite: bool = False
    skip_existing: bool = False
    claims: Claims | None = None  # keep other runs from making the same results
    overlap: bool = True  # every stage in its own thread
    reading: Reading = DEFAULT
    writing: Writing = FOLLOWING
    memory: Memory | None = None  # what a picture may take; all there is where it is None
    on_part: Callable[[Task, float], None] = lambda task, part: None  # told the part of a picture that is done, 0 to 1
    times: StageTimes = field(default_factory=StageTimes)

    def run(
        self, pairs: Sequence[tuple[Path, Path]], *, check: Callable[[Task], None] = lambda task: None
    ) -> Generator[Task, None, None]:
        """Enlarge pictures and yield each, in order, when its result lies on the disk or its ``error`` is known.

        Args:
            pairs: (picture, result).
            check: refuses a picture by raising, before it is read.
        """
        with Stages(overlap=self.overlap) as stages:
            most = MOST_BYTES if self.memory is None else min(MOST_BYTES, self.memory.budget // 2)
            budget = Budget(most, stages.stop)
            decoded = stages.ahead(self._decoded(pairs, budget, check), may_hang=True)
            steps = through_engine(decoded, self.engine, stages, self.times, full=partial(is_full, budget.small))
            finished = stages.ahead(self._finished(steps))
            for task in stages.ahead(self._encoded(finished)):
                if task.error is None and task.work is not None:
                    with self.times.of("write"):
                        attempt(task, self._write, task)
                if self.claims is not None:
                    self.claims.release(task.output)
                task.seconds = time.perf_counter() - task.began
                budget.give(task.held)
                task.picture, task.work, task.content = None, None, ()
                yield task

    def _decoded(
        self, pairs: Sequence[tuple[Path, Path]], budget: Budget, check: Callable[[Task], None]
    ) -> Generator[Task, None, None]:
        for source, output in pairs:
            task = Task(source, output, began=time.perf_counter())
            attempt(task, check, task)
            with self.times.of("decode"):
                attempt(task, self._read, task)
            if task.large is not None:
                task.by_rows = partial(self._by_rows, budget.stop)
            if task.work is not None:
                task.held = task.work.nbytes
                budget.take(task.held)
            yield task

    def _read(self, task: Task) -> None:
        if task.error is not None:
            return
        if self.skip_existing and is_done(task.output):
            task.skipped = True
            return
        if not claim(task, self.claims, wait=self.skip_existing):
            return
        if is_taken(task.output) and not (self.overwrite or self.skip_existing):
            raise InputError(
                f"{task.output}: exists already; add --overwrite to replace it or --skip-existing to keep it, "
                "or choose another place with -o"
            )
        with PictureFile(task.source, self.reading) as file:
            task.kind = format_of_name(task.output) or format_of_result(file.start, task.source, self.writing, self.reading)
            if self.memory is not None:
                task.large = self.memory.large(file.head, task.kind, self.engine.card, self.scale)
            task.picture = file.read() if task.large is None else None
            task.contains(task.picture or file.head.picture, self.scale, file.frames_advice())
        if task.picture is None:
            return
        check_holds(task.kind, task.picture, self.scale, task.source)
        card, frames = self.engine.card, task.picture.all_frames
        task.work = Upscaling(card, frames[0], self.scale) if len(frames) == 1 else FramesUpscaling(card, frames, self.scale)

    def _write(self, task: Task) -> None:
        if task.output == STDOUT:
            write_standard_output(task.content)
            return
        with replacing(task.output) as temporary, temporary.open("wb") as stream:
            stream.writelines(task.content)

    def _by_rows(self, stop: threading.Event, task: Task) -> None:
        assert task.large is not None
        watch = Watch(partial(self.on_part, task), stop, self.overlap)
        with self.times.of("by rows"):
            attempt(task, task.large.enlarge, self.engine, task.output, watch)

    def _finished(self, steps: Iterable[tuple[Task, bool]]) -> Generator[Task, None, None]:
        for task, finished in steps:
            if finished:
                yield task
            else:
                self.on_part(task, task.part)

    def _encoded(self, tasks: Iterable[Task]) -> Generator[Task, None, None]:
        for task in tasks:
            if task.error is None and task.work is not None and task.picture is not None:
                with self.times.of("encode"):
                    task.content = attempt(task, encode, task.kind, task.work.results, task.picture, self.writing.quality) or ()
            yield task


def is_full(most_bytes: int, waiting: list[tuple[Task, Band | None]]) -> bool:
    """Return whether pictures that wait for each other hold more than ``most_bytes``, or one that goes by rows waits."""
    held = {id(task): task.held for task, _ in waiting}
    return sum(held.values()) > most_bytes or waiting[-1][0].large is not None


def claim(task: Task, claims: Claims | None, *, wait: bool) -> bool:
    """Claim a picture's result and return whether it is to be made now; where it is not, ``task`` says why.

    Raises:
        InputError: another run makes it, and ``wait`` does not say that this is well.
    """
    if claims is None or task.output == STDOUT:
        return True
    other = claims.take(task.output)
    if other is not None and not wait:
        raise InputError(f"{task.output}: {other} is writing it; wait for that run, or choose another place with -o")
    task.claimed = other is not None
    task.skipped = wait and not task.claimed and is_done(task.output)  # by another run, since it was looked for
    return not task.claimed and not task.skipped


def is_done(output: Path) -> bool:
    """Return whether a result is there already: results appear whole or not at all, so a file that holds anything is complete."""
    try:
        found = output.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def is_taken(output: Path) -> bool:
    """Return whether something has the name of a result; a name that is too long exists not."""
    return output != STDOUT and os.path.exists(output)  # noqa: PTH110


def attempt(task: Task, step: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result | None:
    """Return what ``step`` returns; what is expected to go wrong with a picture is kept in ``task.error``."""
    try:
        return step(*args, **kwargs)
    except EXPECTED as err:
        task.failed(err)
        return None

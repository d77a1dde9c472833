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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.files import replacing
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.large.large_picture import LargePicture, Memory, Watch
from sr_deploy.runtime.pictures.encode import Content, encoded
from sr_deploy.runtime.pictures.formats import FOLLOWING, Writing, check_holds, followed, format_of_name
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.pictures.standard_streams import STDOUT, write_standard_output
from sr_deploy.runtime.upscaling.batches import groups, run_together
from sr_deploy.runtime.upscaling.pipeline import Budget, Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.upscaling.upscaling import FramesUpscaling, Upscaling

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
MOST_BYTES = 2**30  # pictures and results held at once, where there are several
Part = tuple["Task", "Band | None"]
"""A band of a picture; ``None`` behind its last one."""
EXPECTED = (SrDeployError, MemoryError, OSError)  # of one picture; anything else ends the run


@dataclass
class Task:
    """One picture file on its way."""

    source: Path
    output: Path
    picture: Picture | None = None
    work: Upscaling | FramesUpscaling | None = None
    large: LargePicture | None = None  # instead: read, enlarged and written by rows
    content: Content = ()  # of the result's file
    error: SrDeployError | MemoryError | OSError | None = None
    frames: int = 1  # in the file
    jpeg_quality: int | None = None  # that a JPEG was saved with
    held: int = 0  # bytes of the budget
    skipped: bool = False  # its result was there already
    size: tuple[int, int] | None = None  # width and height of the result
    began: float = 0.0  # when it was its turn to be read, by time.perf_counter
    seconds: float = 0.0  # from then until it was done; other pictures were on their way too


@dataclass(frozen=True)
class FolderRun:
    """How pictures go through an engine."""

    engine: Engine
    scale: int
    overwrite: bool = False
    skip_existing: bool = False
    overlap: bool = True  # every stage in its own thread
    reading: Reading = DEFAULT
    writing: Writing = FOLLOWING
    memory: Memory | None = None  # what a picture may take; all there is where it is None
    on_part: Callable[[Task, float], None] = lambda task, part: None  # told the part of a picture that is done, 0 to 1

    def run(
        self, pairs: Sequence[tuple[Path, Path]], times: StageTimes | None = None, *, check: Callable[[Task], None] | None = None
    ) -> Generator[Task, None, None]:
        """Enlarge pictures and yield each, in order, when its result lies on the disk or its ``error`` is known.

        Args:
            pairs: (picture, result).
            times: gets the seconds of each stage.
            check: refuses a picture by raising, before it is read.
        """
        times = StageTimes() if times is None else times
        with Stages(overlap=self.overlap) as stages:
            most = MOST_BYTES if self.memory is None else min(MOST_BYTES, self.memory.budget // 2)
            budget = Budget(most, stages.stop)
            decoded = stages.ahead(self._decoded(pairs, times, budget, check), may_hang=True)
            cut = stages.ahead(self._cut(decoded, times), depth=1)
            shared = together(cut, (self.engine.card.input_shape or (1,))[0], budget.small)
            computed = stages.ahead(self._computed(shared, times, stages.stop), depth=1)
            finished = stages.ahead(self._finished(computed, times))
            for task in stages.ahead(self._encoded(finished, times)):
                if task.error is None and not task.skipped and task.large is None:
                    with times.of("write"):
                        attempt(task, self._write, task)
                task.seconds = time.perf_counter() - task.began
                budget.give(task.held)
                task.picture, task.work, task.content = None, None, ()
                yield task

    def _decoded(
        self, pairs: Sequence[tuple[Path, Path]], times: StageTimes, budget: Budget, check: Callable[[Task], None] | None
    ) -> Generator[Task, None, None]:
        for source, output in pairs:
            task = Task(source, output, began=time.perf_counter())
            if check is not None:
                attempt(task, check, task)
            with times.of("decode"):
                attempt(task, self._read, task)
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
        if is_taken(task.output) and not (self.overwrite or self.skip_existing):
            raise InputError(f"{task.output}: exists already; add --overwrite to replace it, or choose another place with -o")
        if self.memory is not None:
            task.large = self.memory.large(task.source, task.output, self.engine.card, self.scale)
        if task.large is not None:
            task.frames, task.size = task.large.head.picture.frames, task.large.size
            task.jpeg_quality = task.large.head.picture.jpeg_quality
            return
        task.picture = read_picture(task.source, self.reading)
        task.frames, task.jpeg_quality = task.picture.frames, task.picture.jpeg_quality
        check_holds(self._format(task), task.picture, self.scale, task.source)
        card, frames = self.engine.card, task.picture.all_frames
        task.work = Upscaling(card, frames[0], self.scale) if len(frames) == 1 else FramesUpscaling(card, frames, self.scale)
        task.size = (frames[0].shape[1] * self.scale, frames[0].shape[0] * self.scale)

    def _format(self, task: Task) -> str:
        return format_of_name(task.output) or followed(task.source, self.writing, self.reading)

    def _write(self, task: Task) -> None:
        if task.output == STDOUT:
            write_standard_output(task.content)
            return
        with replacing(task.output) as temporary, temporary.open("wb") as stream:
            stream.writelines(task.content)

    def _cut(self, tasks: Iterable[Task], times: StageTimes) -> Generator[tuple[Task, Band | None], None, None]:
        for task in tasks:
            bands = iter(()) if task.work is None else task.work.bands()
            band = self._next(task, bands, times)
            while band is not None and task.error is None:
                yield task, band
                band = self._next(task, bands, times)
            del bands  # it holds the picture and its result, and the next picture is read before it is made again
            yield task, None

    def _next(self, task: Task, bands: Iterator[Band], times: StageTimes) -> Band | None:
        with times.of("tiles"):
            try:
                return next(bands, None)
            except EXPECTED as err:
                keep(task, err)
                return None

    def _computed(
        self, parts: Iterable[list[Part]], times: StageTimes, stop: threading.Event
    ) -> Generator[tuple[Task, Band | None, Tiles], None, None]:
        for group in parts:
            with times.of("engine"):
                outputs = self._outputs(group)
            for (task, band), output in zip(group, outputs, strict=True):
                if band is None and task.large is not None and task.error is None:  # the stage that has the engine does all of it
                    watch = Watch(partial(self.on_part, task), stop, self.overlap)
                    with times.of("by rows"):
                        attempt(task, task.large.enlarge, self.engine, task.output, watch)
                if output is not None:
                    yield task, band, output

    def _outputs(self, group: list[Part]) -> list[Tiles | None]:
        """Return the engine's output for each part, ``None`` for one that failed, nothing for one without tiles."""
        # Decided once: a later stage may find an error while the engine runs.
        live = [(task, band) for task, band in group if band is not None and task.error is None]
        shared = len({id(task) for task, _ in live}) > 1
        try:
            made = run_together(self.engine.run, [band for _, band in live]) if shared else None
        except EXPECTED:  # each alone, so that one that works is not lost with one that does not
            made = None
        alone = (attempt(task, self.engine.run, band.tiles) for task, band in live)
        outputs: Iterator[Tiles | None] = alone if made is None else iter(made)
        computed = {id(band) for _, band in live}
        empty = np.empty(0, np.float32)
        return [empty if band is None else next(outputs) if id(band) in computed else None for _, band in group]

    def _finished(self, parts: Iterable[tuple[Task, Band | None, Tiles]], times: StageTimes) -> Generator[Task, None, None]:
        for task, band, output in parts:
            if band is None:
                yield task
            elif task.error is None and task.work is not None:
                with times.of("colour"):
                    done = attempt(task, task.work.put, band, output)
                self.on_part(task, done or 0.0)

    def _encoded(self, tasks: Iterable[Task], times: StageTimes) -> Generator[Task, None, None]:
        for task in tasks:
            if task.error is None and task.work is not None and task.picture is not None:
                kind, quality = self._format(task), self.writing.quality
                with times.of("encode"):
                    task.content = attempt(task, encoded, kind, task.work.results, task.picture, quality) or ()
            yield task


def together(parts: Iterable[Part], batch: int, most_bytes: int) -> Iterator[list[Part]]:
    """Return parts in groups for one run of the engine each; pictures that wait for others hold at most ``most_bytes``."""

    def full(waiting: list[Part]) -> bool:
        held = {id(task): task.held for task, _ in waiting}
        return sum(held.values()) > most_bytes or waiting[-1][0].large is not None

    return groups(parts, batch, full=full)


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
        keep(task, err)
        return None


def keep(task: Task, err: SrDeployError | MemoryError | OSError) -> None:
    """Keep the first error of a picture without the frames it passed: they hold the picture and its result."""
    err.__cause__ = err.__context__ = None
    task.error = task.error or err.with_traceback(None)

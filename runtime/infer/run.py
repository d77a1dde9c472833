"""What ``sr-infer`` does once its arguments are read."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import check_scale
from sr_deploy.console import failed
from sr_deploy.errors import DiskFullError, InputError
from sr_deploy.files import check_reports
from sr_deploy.memory import available_bytes
from sr_deploy.progress import Advance, progress
from sr_deploy.runtime.backends.engine import CPU, Engine
from sr_deploy.runtime.backends.ensemble import EnsembleEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import has_photo_engine
from sr_deploy.runtime.infer.folder import FolderRun, Task, attempt, is_done
from sr_deploy.runtime.infer.json_log import JsonLog
from sr_deploy.runtime.infer.places import Inputs
from sr_deploy.runtime.infer.report import PROG, Report
from sr_deploy.runtime.infer.result_names import Naming, Pair, check_folder, result_pairs, results_folder
from sr_deploy.runtime.infer.sources import sources_of
from sr_deploy.runtime.large.large_picture import Memory
from sr_deploy.runtime.pictures.options import reading_of, writing_of
from sr_deploy.runtime.pictures.standard_streams import STDOUT, check_standard_output, standard_input
from sr_deploy.runtime.upscaling.pipeline import StageTimes
from sr_deploy.runtime.video.film import check_installed, enlarge
from sr_deploy.runtime.video.names import is_film
from sr_deploy.temporary_files import remove_leftovers


def infer_command(arguments: argparse.Namespace) -> int:
    """Enlarge every picture; a bad one is named and the others are still done. Return the exit code."""
    if all(is_film(Path(name)) and not Path(name).is_dir() for name in arguments.pictures):
        check_installed()
    with ExitStack() as stack:
        engine = stack.enter_context(closing(opened(arguments)))
        scale = served_scale(engine, arguments)
        spooled: list[Path] = []

        def spool() -> Path:
            spooled.append(stack.enter_context(standard_input()))
            return spooled[0]

        sources, refused = sources_of(arguments.pictures, results=results_folder(arguments.output), standard_input=spool)
        naming = Naming(arguments.output, scale, reading_of(arguments), writing_of(arguments))
        pairs = result_pairs(sources, naming, resumed=arguments.skip_existing)
        check_places(arguments, pairs)
        log = stack.enter_context(JsonLog(arguments.json_log))
        report = Report(
            log, len(pairs) + len(refused), spooled, all_frames=arguments.frames, photo=has_photo_engine(arguments.engine, scale)
        )
        for one in refused:
            report.refused(one)
        work = Work(engine, scale, arguments, Inputs([*(source for source, _ in pairs), arguments.engine]))
        return work.run(pairs, report)


def opened(arguments: argparse.Namespace) -> Engine:
    """Return the engine that the command line names, as an ensemble where that is asked for."""
    engine = load(arguments.engine, provider=arguments.provider, threads=arguments.threads, trusted=arguments.trust_plan)
    return EnsembleEngine(engine, source=str(arguments.engine)) if arguments.ensemble else engine


def served_scale(engine: Engine, arguments: argparse.Namespace) -> int:
    """Return the factor to use; one that the engine was not calibrated for is told."""
    scale = check_scale(engine.card, arguments.scale, source=str(arguments.engine))
    calibrated = engine.card.calibrated_scale
    if calibrated not in (None, scale):
        failed(PROG, f"warning: {arguments.engine}: was calibrated for x{calibrated}, not for x{scale}", 0)
    return scale


def check_places(arguments: argparse.Namespace, pairs: Sequence[Pair]) -> None:
    """Check, before any picture is read, that results and log can be written, and remove what a killed run left there.

    Raises:
        InputError: a place that can hold no results, or a log that would be written into something else.
        MachineError: the folder of the results cannot be written.
    """
    folder = results_folder(arguments.output)
    if str(arguments.json_log) == "-":
        raise InputError("--json-log -: standard output is for names or a picture; name a file")
    check_reports({"--json-log": arguments.json_log}, [*(path for pair in pairs for path in pair), arguments.engine, folder])
    if any(output == STDOUT for _, output in pairs):
        check_standard_output()
    if folder is not None:
        check_folder(folder)
    for place in {output.parent for _, output in pairs if output != STDOUT}:
        remove_leftovers(place)


@dataclass(frozen=True)
class Work:
    """Pictures through an engine, as the command line asks for it."""

    engine: Engine
    scale: int
    arguments: argparse.Namespace
    inputs: Inputs

    def run(self, pairs: Sequence[Pair], report: Report) -> int:
        """Enlarge pictures, tell what becomes of each, and return the exit code; a full disk ends it early."""
        pictures = [pair for pair in pairs if not is_film(pair[0])]
        films = [pair for pair in pairs if is_film(pair[0])]
        if ((pictures or not films) and self._pictures(pictures, report)) or self._films(films, report):
            report.stopped()
        return report.end()

    def _pictures(self, pairs: Sequence[Pair], report: Report) -> bool:
        """Enlarge pictures; return whether a full disk ended that before the last of several inputs."""
        times = StageTimes()
        with progress("upscaling", len(pairs), rate="pictures/s") as advance:
            run = self._folder_run(advance)
            with closing(run.run(pairs, times, check=self._check())) as tasks:
                for task in tasks:
                    report.task(task)
                    advance(task.source.name)
                    if isinstance(task.error, DiskFullError) and report.total > 1:
                        return True
        if self.arguments.times:
            failed(PROG, str(times), 0)
        return False

    def _films(self, pairs: Sequence[Pair], report: Report) -> bool:
        """Enlarge films, one after the other, each with a bar of its own; return what :meth:`_pictures` returns."""
        check = self._check()
        for film, output in pairs:
            task = Task(film, output, began=time.perf_counter())
            attempt(task, check, task)
            task.skipped = task.error is None and self.arguments.skip_existing and is_done(output)
            if task.error is None and not task.skipped:
                task.size = attempt(task, enlarge, self.arguments, self.engine, self.scale, (film, output))
            task.seconds = time.perf_counter() - task.began
            report.task(task)
            if isinstance(task.error, DiskFullError) and report.total > 1:
                return True
        return False

    def _folder_run(self, advance: Advance) -> FolderRun:
        def on_part(task: Task, part: float) -> None:
            advance(f"{task.source.name} {100 * part:.0f} %", by=0)

        reading, writing = reading_of(self.arguments), writing_of(self.arguments)
        return FolderRun(
            self.engine,
            self.scale,
            overwrite=self.arguments.overwrite,
            skip_existing=self.arguments.skip_existing,
            overlap=getattr(self.engine, "provider", "") != CPU,
            on_part=on_part,
            reading=reading,
            writing=writing,
            memory=Memory(self.arguments.memory or available_bytes(), reading, writing),
        )

    def _check(self) -> Callable[[Task], None]:
        good: set[Path] = {STDOUT.parent}

        def check(task: Task) -> None:
            self.inputs.check(task.source, task.output)
            folder = task.output.parent
            if folder not in good:
                check_folder(folder)
                good.add(folder)

        return check

"""What ``sr-infer`` does once its arguments are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.console import Advance, failed, one_line, progress
from sr_deploy.errors import DiskFullError, EngineError, InputError, SrDeployError
from sr_deploy.files import check_reports
from sr_deploy.runtime.bench import CPU
from sr_deploy.runtime.engine import Engine, load
from sr_deploy.runtime.ensemble import EnsembleEngine
from sr_deploy.runtime.folder_run import FolderRun, Task
from sr_deploy.runtime.json_log import JsonLog
from sr_deploy.runtime.large import Memory
from sr_deploy.runtime.large_memory import available_bytes
from sr_deploy.runtime.outcomes import Outcome, Tally
from sr_deploy.runtime.picture_options import reading_of, writing_of
from sr_deploy.runtime.pipeline import StageTimes
from sr_deploy.runtime.places import Inputs
from sr_deploy.runtime.result_names import Naming, Pair, check_folder, result_pairs, results_folder
from sr_deploy.runtime.sources import Refused, sources_of
from sr_deploy.runtime.streams import STDIN_NAME, STDOUT, check_standard_output, standard_input
from sr_deploy.runtime.upscale import check_scale
from sr_deploy.temporary_files import remove_leftovers

PROG = "sr-infer"


def infer_command(arguments: argparse.Namespace) -> int:
    """Enlarge every picture; a bad one is named and the others are still done. Return the exit code."""
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
        report = Report(log, len(pairs) + len(refused), spooled, all_frames=arguments.frames)
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
        times = StageTimes()
        with progress("upscaling", len(pairs), rate="pictures/s") as advance:
            run = self._folder_run(advance)
            with closing(run.run(pairs, times, check=self._check())) as tasks:
                for task in tasks:
                    report.task(task)
                    advance(task.source.name)
                    if isinstance(task.error, DiskFullError) and len(pairs) > 1:
                        report.stopped()
                        break
        if self.arguments.times:
            failed(PROG, str(times), 0)
        return report.end()

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
            self.inputs.check(task)
            folder = task.output.parent
            if folder not in good:
                check_folder(folder)
                good.add(folder)

        return check


class Report:
    """Tells the user and the log what becomes of each picture."""

    def __init__(self, log: JsonLog, total: int, spooled: Sequence[Path], *, all_frames: bool = False) -> None:
        """Remember how many pictures there are, and which files hold what came from standard input."""
        self.log, self.total, self.spooled = log, total, spooled
        self.tally = Tally()
        self.full, self.all_frames = False, all_frames

    def task(self, task: Task) -> None:
        """Tell what became of a picture.

        Raises:
            BrokenPipeError: nobody reads the standard output it was written to.
        """
        name = self._named(str(task.source))
        if task.frames > 1 and not self.all_frames:
            failed(PROG, f"warning: {name}: has {task.frames} frames, the first one is enlarged; --frames takes all", 0)
        if isinstance(task.error, BrokenPipeError):
            raise task.error
        output = "-" if task.output == STDOUT else str(task.output)
        if task.error is not None:
            code = task.error.exit_code if isinstance(task.error, SrDeployError) else 3
            message = one_line(self._named(failure(task.error, task.source)))
            self._add(Outcome(name, output, "failed", None, task.seconds, message, code))
            return
        self._add(Outcome(name, output, "skipped" if task.skipped else "done", task.size, task.seconds))
        if output != "-" and not task.skipped:
            print(one_line(output) if sys.stdout.isatty() else output, flush=True)

    def refused(self, refused: Refused) -> None:
        """Tell of an argument that gives no picture."""
        self._add(Outcome(refused.name, None, "failed", error=one_line(str(refused.error)), code=refused.error.exit_code))

    def stopped(self) -> None:
        """Tell that the disk is full, and that the rest is not tried."""
        self.full = True

    def end(self) -> int:
        """Tell what there is to tell at the end, and return the exit code."""
        lines = self.tally.lines(self.total)
        for line in lines:
            failed(PROG, line, 0)
        if self.full:
            left = self.total - sum(self.tally.counts.values())
            advice = "make room, then run it again with --skip-existing"
            failed(PROG, f"the disk is full: {left} of {self.total} pictures were not tried; {advice}", 3)
        return self.tally.code

    def _add(self, outcome: Outcome) -> None:
        self.tally.add(outcome)
        if outcome.error is not None:
            failed(PROG, outcome.error, outcome.code)
        self.log.add(outcome)

    def _named(self, text: str) -> str:
        for path in self.spooled:
            text = text.replace(str(path), STDIN_NAME)
        return text


def failure(err: SrDeployError | MemoryError | OSError, picture: Path) -> str:
    """Return one line about what went wrong with ``picture``."""
    if isinstance(err, EngineError):
        return f"{picture}: {err}"
    if isinstance(err, SrDeployError):
        return str(err)
    if isinstance(err, MemoryError):
        return f"{picture}: out of memory; cut the picture into parts"
    return f"{picture}: {err.strerror or err}; check its name and the folder of the result"

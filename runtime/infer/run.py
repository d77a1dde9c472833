"""What ``sr-infer`` does once its arguments are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import check_scale
from sr_deploy.console import failed
from sr_deploy.errors import DiskFullError
from sr_deploy.files import check_reports
from sr_deploy.memory import available_bytes
from sr_deploy.progress import Advance, progress
from sr_deploy.runtime.backends.engine import Engine, on_cpu
from sr_deploy.runtime.backends.ensemble import EnsembleEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import has_photo_engine
from sr_deploy.runtime.infer.claims import Claims, remove_dead
from sr_deploy.runtime.infer.folder import FolderRun, Task, attempt, claim, is_done
from sr_deploy.runtime.infer.json_log import JsonLog
from sr_deploy.runtime.infer.left_out import LeftOut
from sr_deploy.runtime.infer.options import InferOptions
from sr_deploy.runtime.infer.places import Inputs
from sr_deploy.runtime.infer.report import PROG, Report
from sr_deploy.runtime.infer.result_names import Naming, Pair, check_folder, result_pairs, results_folder
from sr_deploy.runtime.infer.sources import sources_of
from sr_deploy.runtime.large.large_picture import Memory
from sr_deploy.runtime.pictures.standard_streams import STDOUT, check_standard_output, standard_input
from sr_deploy.runtime.video.enlarge import check_installed, enlarge
from sr_deploy.runtime.video.names import is_video
from sr_deploy.runtime.video.options import VideoOptions
from sr_deploy.temporary_files import remove_leftovers


def infer(options: InferOptions) -> int:
    """Enlarge every picture; a bad one is named and the others are still done. Return the exit code."""
    if all(is_video(Path(name)) and not Path(name).is_dir() for name in options.pictures):
        check_installed()
    with ExitStack() as stack:
        engine = stack.enter_context(closing(open_engine(options)))
        scale = choose_scale(engine, options)
        spooled: list[Path] = []

        def spool() -> Path:
            spooled.append(stack.enter_context(standard_input()))
            return spooled[0]

        left_out = LeftOut()
        folder = results_folder(options.output)
        sources, refused = sources_of(options.pictures, results=folder, standard_input=spool, left_out=left_out.add)
        naming = Naming(options.output, scale, options.reading, options.writing)
        every = result_pairs(sources, naming, resumed=options.skip_existing)
        check_places(options, every)
        pairs = every[options.shard[0] - 1 :: options.shard[1]]
        log = stack.enter_context(JsonLog(options.json_log))
        photo = has_photo_engine(options.engine, scale)
        report = Report(log, len(pairs) + len(refused), spooled, all_frames=options.reading.frames, photo=photo)
        for one in refused:
            report.refused(one)
        report.left_out(left_out)
        claims = stack.enter_context(Claims())
        inputs = Inputs([*(source for source, _ in every), options.engine])  # of all shards: what one reads no other replaces
        work = Work(engine, scale, options, inputs, claims)
        return work.run(pairs, report)


def open_engine(options: InferOptions) -> Engine:
    """Return the engine that is asked for, as an ensemble where that is asked for."""
    engine = load(options.engine, provider=options.provider, threads=options.threads, trusted=options.trusted)
    return EnsembleEngine(engine, source=str(options.engine)) if options.ensemble else engine


def choose_scale(engine: Engine, options: InferOptions) -> int:
    """Return the factor to use; one that the engine was not calibrated for is told."""
    scale = check_scale(engine.card, options.scale, source=str(options.engine))
    calibrated = engine.card.calibrated_scale
    if calibrated not in (None, scale):
        failed(PROG, f"warning: {options.engine}: was calibrated for x{calibrated}, not for x{scale}", 0)
    return scale


def check_places(options: InferOptions, pairs: Sequence[Pair]) -> None:
    """Check, before any picture is read, that results and log can be written, and remove what a killed run left there.

    Raises:
        InputError: a place that can hold no results, or a log that would be written into something else.
        MachineError: the folder of the results cannot be written.
    """
    folder = results_folder(options.output)
    check_reports({"--json-log": options.json_log}, [*(path for pair in pairs for path in pair), options.engine, folder])
    if any(output == STDOUT for _, output in pairs):
        check_standard_output()
    if folder is not None:
        check_folder(folder)
    for place in {output.parent for _, output in pairs if output != STDOUT}:
        remove_leftovers(place)
        remove_dead(place)


@dataclass(frozen=True)
class Work:
    """Pictures through an engine, as it is asked for."""

    engine: Engine
    scale: int
    options: InferOptions
    inputs: Inputs
    claims: Claims

    def run(self, pairs: Sequence[Pair], report: Report) -> int:
        """Enlarge pictures, tell what becomes of each, and return the exit code; a full disk ends it early."""
        pictures = [pair for pair in pairs if not is_video(pair[0])]
        videos = [pair for pair in pairs if is_video(pair[0])]
        if ((pictures or not videos) and self._pictures(pictures, report)) or self._videos(videos, report):
            report.stopped()
        return report.end()

    def _pictures(self, pairs: Sequence[Pair], report: Report) -> bool:
        """Enlarge pictures; return whether a full disk ended that before the last of several inputs."""
        elsewhere: list[Pair] = []
        with progress("upscaling", len(pairs), rate="pictures/s") as advance:
            run = self._folder_run(advance)
            # What another run had claimed is looked at once more: it is there by now, or that run was killed.
            if self._pass(run, pairs, report, advance, elsewhere) or self._pass(run, elsewhere, report, advance):
                return True
        if self.options.times:
            failed(PROG, str(run.times), 0)
        return False

    def _pass(
        self, run: FolderRun, pairs: Sequence[Pair], report: Report, advance: Advance, elsewhere: list[Pair] | None = None
    ) -> bool:
        """Enlarge pictures and return what :meth:`_pictures` returns; what others claimed goes into ``elsewhere``, if given."""
        with closing(run.run(pairs, check=self._check())) as tasks:
            for task in tasks:
                if task.claimed and elsewhere is not None:
                    elsewhere.append((task.source, task.output))
                    continue
                report.task(task)
                advance(task.source.name)
                if isinstance(task.error, DiskFullError) and report.total > 1:
                    return True
        return False

    def _videos(self, pairs: Sequence[Pair], report: Report) -> bool:
        """Enlarge videos, one after the other, each with a bar of its own; return what :meth:`_pictures` returns."""
        check, options = self._check(), self._video_options()
        for video, output in pairs:
            task = Task(video, output, began=time.perf_counter())
            attempt(task, check, task)
            task.skipped = task.error is None and self.options.skip_existing and is_done(output)
            undone = task.error is None and not task.skipped
            if undone and attempt(task, claim, task, self.claims, wait=self.options.skip_existing):
                task.size = attempt(task, enlarge, self.engine, self.scale, (video, output), options, times=self.options.times)
                self.claims.release(output)
            task.seconds = time.perf_counter() - task.began
            report.task(task)
            if isinstance(task.error, DiskFullError) and report.total > 1:
                return True
        return False

    def _folder_run(self, advance: Advance) -> FolderRun:
        def on_part(task: Task, part: float) -> None:
            advance(f"{task.source.name} {100 * part:.0f} %", by=0)

        return FolderRun(
            self.engine,
            self.scale,
            overwrite=self.options.overwrite,
            skip_existing=self.options.skip_existing,
            claims=self.claims,
            overlap=not on_cpu(self.engine),
            on_part=on_part,
            reading=self.options.reading,
            writing=self.options.writing,
            memory=Memory(self.options.memory or available_bytes(), self.options.reading, self.options.writing),
        )

    def _video_options(self) -> VideoOptions:
        return VideoOptions(
            self.options.codec,
            self.options.crf,
            self.options.overwrite or self.options.skip_existing,
            overlap=not on_cpu(self.engine),
            max_pixels=self.options.reading.max_pixels,
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

"""What ``sr-infer`` tells of each input: a line for the user, a line for the log, and the sums at the end."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.console import failed, one_line
from sr_deploy.errors import EngineError, SrDeployError
from sr_deploy.runtime.infer.folder import Task
from sr_deploy.runtime.infer.json_log import JsonLog
from sr_deploy.runtime.infer.left_out import LeftOut
from sr_deploy.runtime.infer.outcomes import Outcome, Status, Tally
from sr_deploy.runtime.infer.sources import Refused
from sr_deploy.runtime.pictures.beside import some_of
from sr_deploy.runtime.pictures.standard_streams import STDIN_NAME, STDOUT
from sr_deploy.runtime.video.names import is_video

PROG = "sr-infer"
MOST_DROPPED = 6
MOST_LINES = 20  # about single pictures; what comes then is counted
CLEAN_QUALITY = 90  # of a JPEG; below it the blocks are seen


class Report:
    """Tells the user and the log what becomes of each picture."""

    def __init__(
        self, log: JsonLog, total: int, spooled: Sequence[Path], *, all_frames: bool = False, photo: bool = False
    ) -> None:
        """Remember how many pictures there are, and which files hold what came from standard input.

        ``photo``: an engine for JPEGs could be taken in place of this one.
        """
        self.log, self.total, self.spooled = log, total, spooled
        self.tally = Tally()
        self.full, self.all_frames = False, all_frames
        self.errors, self.warnings = 0, 0  # about single pictures
        self.dropped: dict[str, list[str]] = defaultdict(list)  # what results have not, and the pictures
        self.photo, self.coarse = photo, 0  # JPEGs that were saved coarsely

    def task(self, task: Task) -> None:
        """Tell what became of a picture.

        Raises:
            BrokenPipeError: nobody reads the standard output it was written to.
        """
        name = self._named(str(task.source))
        left = 0 if self.all_frames else task.frames - 1
        if left:
            self._warn(f"{name}: has {task.frames} frames, the first one is enlarged; {task.frames_advice}")
        more = f"{task.others} more picture{'s' if task.others > 1 else ''}"
        if task.others:
            self._warn(f"{name}: holds {more}, the first one is enlarged; exiftool -b -MPImage2 takes the second out")
        self.coarse += task.jpeg_quality is not None and task.jpeg_quality < CLEAN_QUALITY
        if isinstance(task.error, BrokenPipeError):
            raise task.error
        output = "-" if task.output == STDOUT else str(task.output)
        if task.error is not None:
            code = task.error.exit_code if isinstance(task.error, SrDeployError) else 3
            message = one_line(self._named(failure(task.error, task.source)))
            self._add(Outcome(name, output, "failed", None, task.seconds, message, code))
            return
        status: Status = "skipped" if task.skipped else "claimed" if task.claimed else "done"
        dropped = task.dropped if status == "done" else ()
        for what in dropped:
            self.dropped[what].append(name)
        dropped += (*([f"{left} more frame{'s' if left > 1 else ''}"] if left else []), *([more] if task.others else []))
        self._add(Outcome(name, output, status, task.size, task.seconds, dropped=dropped))
        if output != "-" and status == "done":
            print(one_line(output) if sys.stdout.isatty() else output, flush=True)

    def refused(self, refused: Refused) -> None:
        """Tell of an argument that gives no picture."""
        self._add(Outcome(refused.name, None, "failed", error=one_line(str(refused.error)), code=refused.error.exit_code))

    def left_out(self, left_out: LeftOut) -> None:
        """Tell what was left out of folders."""
        if line := left_out.line():
            failed(PROG, line, 0)
        for path, why in left_out.each():
            self.log.add(Outcome(str(path), None, "left out", error=f"{one_line(str(path))}: {why}"))

    def stopped(self) -> None:
        """Tell that the disk is full, and that the rest is not tried."""
        self.full = True

    def end(self) -> int:
        """Tell what there is to tell at the end, and return the exit code."""
        unsaid = self.warnings - MOST_LINES
        warned = [f"{unsaid} more warnings about further frames or pictures in a file"] if unsaid > 0 else []
        for line in [*warned, *self.tally.lines(self.total), *self._dropped()]:
            failed(PROG, line, 0)
        if self.photo and self.coarse:
            which = "the JPEG is" if self.total == 1 else f"{self.coarse} JPEG{'s are' if self.coarse > 1 else ' is'}"
            failed(PROG, f"{which} of a quality below {CLEAN_QUALITY}; try --engine photo, which was trained on such pictures", 0)
        if self.full:
            left = self.total - sum(self.tally.counts.values())
            advice = "make room, then run it again with --skip-existing"
            failed(PROG, f"the disk is full: {left} of {self.total} pictures were not tried; {advice}", 3)
        return self.tally.code

    def _dropped(self) -> list[str]:
        """Return one line about what stood beside pictures and is not in their results."""
        parts = sorted(self.dropped.items(), key=lambda item: -len(item[1]))
        told = [
            what if self.total == 1 else f"{what} of {some_of([one_line(name) for name in names])}"
            for what, names in parts[:MOST_DROPPED]
        ]
        told += [f"{len(parts) - MOST_DROPPED} other things"] if len(parts) > MOST_DROPPED else []
        return [f"not in the result{'' if self.total == 1 else 's'}: {'; '.join(told)}"] if told else []

    def _add(self, outcome: Outcome) -> None:
        self.tally.add(outcome)
        if outcome.error is not None:
            self.errors += 1
            if self.errors <= MOST_LINES:
                failed(PROG, outcome.error, 0)
            elif self.errors == MOST_LINES + 1:
                advice = "" if self.log.path else "; --json-log FILE holds all"
                failed(PROG, f"from here on such lines are only counted{advice}", 0)
        self.log.add(outcome)

    def _warn(self, text: str) -> None:
        self.warnings += 1
        if self.warnings <= MOST_LINES:
            failed(PROG, f"warning: {text}", 0)

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
        return f"{picture}: out of memory; {'use a smaller --scale' if is_video(picture) else 'cut the picture into parts'}"
    return f"{picture}: {err.strerror or err}; check its name and the folder of the result"

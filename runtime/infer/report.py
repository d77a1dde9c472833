"""What ``sr-infer`` tells of each input: a line for the user, a line for the log, and the sums at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.console import failed, one_line
from sr_deploy.errors import EngineError, SrDeployError
from sr_deploy.runtime.infer.folder import Task
from sr_deploy.runtime.infer.json_log import JsonLog
from sr_deploy.runtime.infer.outcomes import Outcome, Status, Tally
from sr_deploy.runtime.infer.sources import Refused
from sr_deploy.runtime.pictures.standard_streams import STDIN_NAME, STDOUT
from sr_deploy.runtime.video.names import is_video

PROG = "sr-infer"
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
        self.lines = 0  # about single pictures
        self.photo, self.coarse = photo, 0  # JPEGs that were saved coarsely

    def task(self, task: Task) -> None:
        """Tell what became of a picture.

        Raises:
            BrokenPipeError: nobody reads the standard output it was written to.
        """
        name = self._named(str(task.source))
        if task.frames > 1 and not self.all_frames:
            self._line(f"warning: {name}: has {task.frames} frames, the first one is enlarged; --frames takes all")
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
        self._add(Outcome(name, output, status, task.size, task.seconds))
        if output != "-" and status == "done":
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
        if self.photo and self.coarse:
            which = "the JPEG is" if self.total == 1 else f"{self.coarse} JPEG{'s are' if self.coarse > 1 else ' is'}"
            failed(PROG, f"{which} of a quality below {CLEAN_QUALITY}; try --engine photo, which was trained on such pictures", 0)
        if self.full:
            left = self.total - sum(self.tally.counts.values())
            advice = "make room, then run it again with --skip-existing"
            failed(PROG, f"the disk is full: {left} of {self.total} pictures were not tried; {advice}", 3)
        return self.tally.code

    def _add(self, outcome: Outcome) -> None:
        self.tally.add(outcome)
        if outcome.error is not None:
            self._line(outcome.error)
        self.log.add(outcome)

    def _line(self, text: str) -> None:
        """Tell something about one picture, where not too much was told."""
        self.lines += 1
        if self.lines <= MOST_LINES:
            failed(PROG, text, 0)
        elif self.lines == MOST_LINES + 1:
            advice = "" if self.log.path else "; --json-log FILE holds all"
            failed(PROG, f"from here on such lines are only counted{advice}", 0)

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

"""What became of each picture of a run, and what is said about it at the end."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sr_deploy.console import one_line
from sr_deploy.runtime.pictures.beside import some_of

Status = Literal["done", "skipped", "claimed", "failed", "left out"]
MOST_KINDS = 10  # of failures that are told at the end
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Outcome:
    """What became of one picture."""

    source: str
    output: str | None
    status: Status
    size: tuple[int, int] | None = None  # width and height of the result
    seconds: float = 0.0
    error: str | None = None  # one line
    code: int = 0  # the exit code it asks for
    dropped: tuple[str, ...] = ()  # what of the file its result has not


class Tally:
    """Counts of what became of the pictures of a run; only failures are kept."""

    def __init__(self) -> None:
        self.counts: dict[Status, int] = {"done": 0, "skipped": 0, "claimed": 0, "failed": 0}
        self.failures: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count one picture."""
        self.counts[outcome.status] += 1
        if outcome.status == "failed":
            self.failures.append(outcome)

    @property
    def code(self) -> int:
        """The exit code of the run: the highest that a picture asks for."""
        return max((failure.code for failure in self.failures), default=0)

    def lines(self, total: int) -> list[str]:
        """Return what is said at the end about ``total`` pictures; nothing where all is well."""
        skipped, claimed, failed = self.counts["skipped"], self.counts["claimed"], self.counts["failed"]
        lines = [f"{skipped} of {total} were there already"] if skipped else []
        lines += [f"{claimed} of {total} are being made by other runs"] if claimed else []
        if failed and total > 1:
            lines += [f"{failed} of {total} pictures failed", *group(self.failures)]
        return lines


def group(failures: Sequence[Outcome]) -> list[str]:
    """Return one line for each kind of failure, the most frequent first: how many, why, and some of the pictures."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for failure in failures:
        groups[NUMBER.sub("#", reason_of(failure))].append(failure)
    lines, kinds = [], sorted(groups.items(), key=lambda item: -len(item[1]))
    for key, group in kinds[:MOST_KINDS]:
        reasons = {reason_of(failure) for failure in group}
        reason = reasons.pop() if len(reasons) == 1 else key.replace("#", "...")
        lines.append(f"{len(group)} {reason}: {some_of([one_line(failure.source) for failure in group])}")
    rest = sum(len(group) for _, group in kinds[MOST_KINDS:])
    return [*lines, f"{rest} for {len(kinds) - MOST_KINDS} other reasons"] if rest else lines


def reason_of(failure: Outcome) -> str:
    """Return why a picture failed without its name and the advice: what such failures have in common."""
    text = failure.error or "failed"
    for name in (failure.source, failure.output, failure.output and str(Path(failure.output).parent)):
        if name is not None:
            text = text.removeprefix(f"{one_line(name)}: ")
    return text.partition(";")[0].partition(" (")[0].strip()

"""What is said at the end of a run, and what its log holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sr_deploy.errors import DiskFullError, InputError
from sr_deploy.runtime.infer.json_log import JsonLog
from sr_deploy.runtime.infer.outcomes import Outcome, Tally


def failed(name: str, error: str, code: int = 2) -> Outcome:
    return Outcome(name, f"out/{name}", "failed", error=error, code=code)


def test_failures_are_grouped_by_their_reason() -> None:
    tally = Tally()
    for name in "abcde":
        tally.add(failed(f"{name}.png", f"{name}.png: cannot be decoded (at {ord(name)}); the file is damaged"))
    tally.add(failed("f.png", "out/f.png: exists already; add --overwrite"))
    tally.add(failed("g.png", "g.png: declares 30x20 pixels, the limit is 5; cut it"))
    tally.add(failed("h.png", "h.png: declares 40x50 pixels, the limit is 5; cut it", 3))
    tally.add(failed("a\nb.png", "a\\nb.png: cannot be read (Permission denied); check it"))
    tally.add(failed("c.png", "out: cannot be written (no permission for .); choose another place"))
    tally.add(Outcome("i.png", "out/i.png", "done"))
    assert tally.lines(11) == [
        "10 of 11 pictures failed",
        "5 cannot be decoded: a.png, b.png, c.png and 2 more",
        "2 declares ...x... pixels, the limit is ...: g.png, h.png",
        "1 exists already: f.png",
        "1 cannot be read: a\\nb.png",
        "1 cannot be written: c.png",
    ]
    assert tally.code == 3


def test_the_reasons_that_are_told_are_bounded() -> None:
    tally = Tally()
    for number in range(14):
        tally.add(failed(f"{number}.png", f"{number}.png: {'a' * (number + 1)}"))
    lines = tally.lines(14)
    assert len(lines) == 12 and lines[-1] == "4 for 4 other reasons"


def test_nothing_is_said_where_all_is_well() -> None:
    tally = Tally()
    tally.add(Outcome("i.png", "out/i.png", "done"))
    assert tally.lines(1) == [] and tally.code == 0
    tally.add(Outcome("j.png", "out/j.png", "skipped"))
    assert tally.lines(2) == ["1 of 2 were there already"] and tally.code == 0


def test_each_line_of_the_log_is_one_picture_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    name = os.fsdecode(b"a\n\xff.png")
    with JsonLog(path) as log:
        log.add(Outcome(name, "out.png", "done", (4, 6), 1.23456, dropped=("XMP",)))
        (line,) = path.read_text().splitlines()  # not only when it is closed
        entry = json.loads(line)
        log.add(failed("b.png", "b.png: no"))
    expected = {"input": name, "output": "out.png", "status": "done", "size": [4, 6], "seconds": 1.235, "error": None}
    assert entry == {**expected, "dropped": ["XMP"]}
    assert json.loads(path.read_text().splitlines()[1])["error"] == "b.png: no"


def test_a_log_goes_on_behind_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"input": "a.png", "out')
    with JsonLog(path) as log:
        log.add(Outcome("b.png", "out.png", "done"))
    with JsonLog(path) as log:
        log.add(Outcome("c.png", "out.png", "done"))
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and [json.loads(line)["input"] for line in lines[1:]] == ["b.png", "c.png"]


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--json-log .*: cannot be written \(No such file or directory\)"):
        JsonLog(tmp_path / "missing" / "log.jsonl")
    with JsonLog(Path("/dev/full")) as log, pytest.raises(DiskFullError, match="--json-log /dev/full: writing failed"):
        log.add(Outcome("b.png", "out.png", "done"))


def test_without_a_file_nothing_is_logged() -> None:
    with JsonLog(None) as log:
        log.add(Outcome("b.png", "out.png", "done"))

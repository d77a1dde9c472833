"""Several runs share a folder of results: each picture is made once, whatever happens to the others."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.runtime.infer import claims as module
from sr_deploy.runtime.infer.claims import Claim, Claims, claim_of_this_process, is_dead, place_of, remove_dead, set_aside
from sr_deploy.temporary_files import remove_leftovers
from tests.helpers.cli import error_lines, infer

ELSEWHERE = Claim("another-host", "its boot", 1, "77", "0123456789abcdef")


def put(output: Path, claim: Claim, age_s: float = 0.0) -> Path:
    """Write the claim of another run, touched ``age_s`` ago."""
    path = place_of(output)
    path.write_text(json.dumps(asdict(claim)))
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((9, 8), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_one_of_two_takes_a_result_and_gives_it_back(tmp_path: Path) -> None:
    output = tmp_path / "new" / "a.png"
    with Claims() as ours, Claims() as theirs:
        assert ours.take(output) is None
        other = theirs.take(output)
        assert other is not None and other.process == os.getpid()
        theirs.release(output)  # it is not theirs
        assert theirs.take(output) is not None
        ours.release(output)
        assert theirs.take(output) is None
    assert not output.parent.exists()


def test_a_claim_on_another_host_dies_of_its_age(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    with Claims() as ours:
        put(output, ELSEWHERE, age_s=290)
        assert ours.take(output) == ELSEWHERE
        put(output, ELSEWHERE, age_s=310)
        assert ours.take(output) is None


def test_a_claim_on_this_host_dies_with_its_process(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    own = claim_of_this_process()
    path = put(tmp_path / "a.png", replace(own, process=gone.pid))
    assert is_dead(path, replace(own, process=gone.pid))
    assert is_dead(path, replace(own, began="1"))  # its number was used again
    assert not is_dead(path, own)


def test_a_process_that_proc_hides_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = claim_of_this_process()
    monkeypatch.setattr(module, "_began", lambda process: "")
    assert not is_dead(put(tmp_path / "a.png", own), own)
    assert is_dead(put(tmp_path / "a.png", own, age_s=310), own)


def test_what_a_killed_run_set_aside_is_removed(tmp_path: Path) -> None:
    for name, age_s in (("0" * 24 + ".01234567", 400), ("0" * 24 + ".89abcdef", 0)):
        (tmp_path / f".sr-{name}").touch()
        os.utime(tmp_path / f".sr-{name}", (time.time() - age_s, time.time() - age_s))
    remove_dead(tmp_path)
    assert [path.name[-8:] for path in tmp_path.iterdir()] == ["89abcdef"]


def test_a_claim_that_is_not_written_yet_lives(tmp_path: Path) -> None:
    place_of(tmp_path / "a.png").touch()
    with Claims() as ours:
        assert ours.take(tmp_path / "a.png") is not None


def test_a_living_claim_that_took_a_dead_ones_place_stays(tmp_path: Path) -> None:
    path = put(tmp_path / "a.png", claim_of_this_process())
    set_aside(path, ELSEWHERE)
    assert path.exists() and len(list(tmp_path.iterdir())) == 1


def test_dead_claims_of_a_folder_are_removed(tmp_path: Path) -> None:
    dead, living = put(tmp_path / "a.png", ELSEWHERE, age_s=400), put(tmp_path / "b.png", ELSEWHERE)
    remove_dead(tmp_path)
    assert (dead.exists(), living.exists()) == (False, True)
    remove_dead(tmp_path / "none")


def test_held_claims_are_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOUCH_S", 0.001)
    with Claims() as ours:
        assert ours.take(tmp_path / "a.png") is None
        path = place_of(tmp_path / "a.png")
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.001)


def test_a_folder_that_takes_no_claims_is_no_reason_to_stop() -> None:
    with Claims() as ours:
        assert ours.take(Path("/dev/null/a.png")) is None


def test_what_another_run_makes_is_left_to_it_and_named(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = pictures(tmp_path / "in", 3), tmp_path / "out"
    out.mkdir()
    put(out / "1_x2.png", ELSEWHERE)
    log = tmp_path / "log.jsonl"
    assert infer(identity_file, folder, "-o", out, "--skip-existing", "--json-log", log) == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["0_x2.png", "2_x2.png"]
    assert error_lines(capsys) == ["sr-infer: 1 of 3 are being made by other runs"]
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == ["done", "done", "claimed"]


def test_two_runs_into_one_file_is_an_error_of_the_second(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "in", 1)
    put(tmp_path / "a.png", ELSEWHERE)
    for options in ([], ["--overwrite"]):
        assert infer(identity_file, folder / "0.png", "-o", tmp_path / "a.png", *options) == 2
        line = error_lines(capsys)[0]
        assert line.endswith("a.png: process 1 on another-host is writing it; wait for that run, or choose another place with -o")
    assert not (tmp_path / "a.png").exists()


def test_a_result_that_appears_while_it_is_claimed_is_not_replaced(
    identity_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output, take = pictures(tmp_path / "in", 1), tmp_path / "a.png", Claims.take

    def finished_meanwhile(claims: Claims, path: Path) -> Claim | None:
        path.write_bytes(b"of another run")
        return take(claims, path)

    monkeypatch.setattr(Claims, "take", finished_meanwhile)
    assert infer(identity_file, folder / "0.png", "-o", output) == 2
    assert "a.png: exists already" in error_lines(capsys)[0]
    assert output.read_bytes() == b"of another run"


def test_runs_at_once_make_each_picture_once(identity_file: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", 12), tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sr_deploy.runtime.infer.command",
        str(folder),
        "-o",
        str(out),
        "--engine",
        str(identity_file),
    ]
    command += ["--skip-existing", "--threads", "1"]
    runs = [subprocess.Popen([*command, "--json-log", str(tmp_path / f"{n}.jsonl")], stderr=subprocess.DEVNULL) for n in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    entries = [json.loads(line) for n in range(3) for line in (tmp_path / f"{n}.jsonl").read_text().splitlines()]
    done = sorted(entry["input"] for entry in entries if entry["status"] == "done")
    assert done == sorted(map(str, folder.iterdir()))
    assert len(list(out.iterdir())) == 12  # and no claim is left


def test_shards_part_the_pictures(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "in", 7)
    for part in (1, 2, 3):
        assert infer(identity_file, folder, "-o", tmp_path / str(part), "--shard", f"{part}/3") == 0
    assert [len(list((tmp_path / str(part)).iterdir())) for part in (1, 2, 3)] == [3, 2, 2]
    capsys.readouterr()
    for wrong in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(SystemExit, match="2"):
            infer(identity_file, folder, "--shard", wrong)
    assert all("is no part of a whole" in line for line in error_lines(capsys) if "usage" not in line)


def test_a_claim_that_cannot_be_written_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(json, "dump", full)
    with Claims() as claims:
        assert claims.take(tmp_path / "a.png") is None
    assert not list(tmp_path.iterdir())


def test_a_run_that_begins_kills_no_claim_that_another_looks_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, begun = put(tmp_path / "a.png", ELSEWHERE), os.fstat, list[int]()

    def fstat(handle: int) -> os.stat_result:
        found = real(handle)
        if not begun:
            begun.append(handle)
            remove_leftovers(tmp_path)
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    assert not is_dead(path, ELSEWHERE)
    assert begun and list(tmp_path.iterdir()) == [path]


def test_a_shard_replaces_no_input_of_another(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "in", 1)
    small, large = folder / "0.png", folder / "0_x1.png"
    Image.fromarray(np.full((9, 8), 99, np.uint8)).save(large)
    before = large.read_bytes()
    for options in ((), ("--json-log", large)):
        assert infer(identity_file, small, large, "--scale", "1", "--overwrite", "--shard", "1/2", *options) == 2
    assert large.read_bytes() == before
    lines = error_lines(capsys)
    assert f"is the input {large}" in lines[0] and "--json-log" in lines[-1]


@pytest.mark.parametrize("end", [b"\n", b"\0", b"\r\n"])
def test_names_come_from_a_file(identity_file: Path, tmp_path: Path, end: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "in", 3)
    odd = folder / os.fsdecode(b"\xff 2.png")
    (folder / "2.png").rename(odd)
    (tmp_path / "list").write_bytes(end.join(os.fsencode(path) for path in (folder / "0.png", odd)) + end)
    assert infer(identity_file, "--files-from", tmp_path / "list", "-o", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    (tmp_path / "list").write_bytes(b"\n")
    assert infer(identity_file, "--files-from", tmp_path / "list") == 2
    assert infer(identity_file, "--files-from", tmp_path / "none") == 2
    lines = error_lines(capsys)
    assert "holds no name; give one a line" in lines[-2] and "none: cannot be read" in lines[-1]

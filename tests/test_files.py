from __future__ import annotations

import hashlib
import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import check_reports, digest_bytes, list_pictures, read_bytes, replacing, write_bytes, write_text
from sr_deploy.signals import Stopped, held_signals, stop_signals


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_file_appears_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "\u00e4")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"\xc3\xa4"


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ValueError])
def test_a_writer_that_raises_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error, match="stopped"), replacing(path) as temporary:
        temporary.write_bytes(b"half of the new")
        raise error("stopped")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_disk_error_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(MachineError, match=r"a\.bin: writing failed \(No space left on device\); nothing"), replacing(path):
        raise OSError(28, os.strerror(28))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_the_old_file_is_there_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_temporary_keeps_folder_and_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.png") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 251 + ".bin", "写" * 81 + ".bin"):
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_a_name_that_is_too_long_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        write_bytes(tmp_path / ("n" * 256), b"x")
    assert names(tmp_path) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"new"


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="loop: cannot be written"):
        write_bytes(tmp_path / "loop", b"x")


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    write_bytes(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(InputError, match="not a regular file"), replacing(Path("/dev/null")):
        pass
    if Path("/dev/full").is_char_device():
        with pytest.raises(MachineError, match="/dev/full: writing failed"):
            write_bytes(Path("/dev/full"), b"x")
        assert Path("/dev/full").is_char_device()


def test_a_report_replaces_an_old_report_only(tmp_path: Path) -> None:
    for name in ("a.json", "a.onnx", "b.onnx", "a.toml", "a.PNG"):
        (tmp_path / name).write_bytes(b"")
    kept = [tmp_path / "a.onnx", None]
    check_reports({"--json": tmp_path / "a.json", "--junit": tmp_path / "new", "--summary": None}, kept)
    for name in ("a.onnx", "b.onnx", "a.toml", "a.PNG"):
        with pytest.raises(InputError, match=rf"--json .*{name}: would replace "):
            check_reports({"--json": tmp_path / name}, kept)
    with pytest.raises(InputError, match=r"would replace .*, which this command needs"):
        check_reports({"--json": tmp_path / "sub" / ".." / "a.onnx"}, kept)
    with pytest.raises(InputError, match=r"--junit .*: would replace what --json writes"):
        check_reports({"--json": tmp_path / "x", "--junit": tmp_path / "x"}, kept)
    with pytest.raises(InputError, match="a folder; name a file"):
        check_reports({"--json": tmp_path}, kept)
    with pytest.raises(InputError, match="--json -: standard output is taken; name a file"):
        check_reports({"--json": Path("-")}, kept)


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="a: not a regular file; choose another name"):
        write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_file_as_parent_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(InputError, match=r"b: cannot be written .*; choose another place"):
        write_bytes(tmp_path / "a" / "b", b"x")


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), (".", "Is a directory")])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"cannot be read \({reason}.*\); name a model$"):
        read_bytes(tmp_path / name, advice="name a model")


def test_digest_is_sha256() -> None:
    assert digest_bytes(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_pictures_are_listed_sorted_from_all_levels(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "sub/c.tif", ".hidden.png", "notes.txt", "noext"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [str(p.relative_to(tmp_path)) for p in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "sub/c.tif"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no picture; put \.apng, .* files into it"):
        list_pictures(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(InputError, match=rf"{name}: not a folder; name one that holds pictures"):
        list_pictures(tmp_path / name)


def test_threads_that_write_at_once_keep_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = os.umask

    def slowly(mask: int) -> int:
        before = asked(mask)
        os.sched_yield()  # for another thread to come between
        return before

    before = asked(0o077)
    try:
        monkeypatch.setattr(os, "umask", slowly)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: write_text(tmp_path / str(number), ""), range(40)))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
        assert asked(0o077) == 0o077
    finally:
        asked(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_temporary_file_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    make = tempfile.mkstemp

    def interrupted(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        made = make(prefix=prefix, suffix=suffix, dir=dir)
        os.kill(os.getpid(), number)
        return made

    monkeypatch.setattr(tempfile, "mkstemp", interrupted)
    with stop_signals(), pytest.raises(Stopped) as stopped, replacing(tmp_path / "a.png"):
        pytest.fail("went on")
    assert stopped.value.number == number and names(tmp_path) == []
    with held_signals() as asked, replacing(tmp_path / "a.png") as temporary:  # a step that is finished first goes on
        temporary.write_bytes(b"whole")
    assert asked.numbers == [number] and names(tmp_path) == ["a.png"]

"""``sr-infer`` on many pictures: what is skipped, logged and summed up, and what one bad place does to the others."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy.runtime.infer.command import main
from tests.helpers.cli import infer
from tests.runtime.command_runs import command, error_lines, run
from tests.runtime.infer.test_command import picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with five pictures, one of them broken, in three folders."""
    folder = tmp_path / "photos"
    (folder / "sub" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/c.png", "sub/deep/d.bmp"):
        picture(folder / name)
    (folder / "sub" / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


RESULTS = ["a_x2.png", "b_x2.jpg", "sub/c_x2.png", "sub/deep/d_x2.bmp"]


def test_a_folder_is_mirrored_and_the_broken_one_is_named_at_the_end(
    identity_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(identity_file, photos, "-o", tmp_path / "out") == 2
    assert files(tmp_path / "out") == RESULTS
    found = capsys.readouterr()
    assert found.out.splitlines() == [str(tmp_path / "out" / name) for name in RESULTS]
    lines = found.err.splitlines()
    assert len(lines) == 3 and "broken.png: cannot be decoded" in lines[0] and lines[1] == "sr-infer: 1 of 5 pictures failed"
    assert lines[2] == f"sr-infer: 1 cannot be decoded: {photos}/sub/broken.png"


def test_the_lines_about_a_folder_of_broken_pictures_are_bounded(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.png").write_bytes(b"broken")
    assert infer(identity_file, tmp_path, "-o", tmp_path / "out", "--json-log", tmp_path / "log") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 23 and lines[20] == "sr-infer: from here on such lines are only counted"
    assert lines[21] == "sr-infer: 25 of 25 pictures failed" and "00.png, " in lines[22] and lines[22].endswith("and 22 more")
    assert len((tmp_path / "log").read_text().splitlines()) == 25


def test_many_warnings_hide_no_error(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Image.new("L", (4, 3), 50 * n) for n in range(3)]
    for number in range(22):
        frames[0].save(tmp_path / f"{number:02}.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "z.png").write_bytes(b"broken")
    assert infer(identity_file, tmp_path, "-o", tmp_path / "out", "--json-log", tmp_path / "log") == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum("has 3 frames" in line for line in lines) == 20 and "z.png: cannot be decoded" in lines[20]
    assert lines[21] == "sr-infer: 2 more warnings about further frames or pictures in a file"
    assert json.loads((tmp_path / "log").read_text().splitlines()[0])["dropped"] == ["2 more frames"]


def test_a_second_run_does_only_what_is_missing(identity_file: Path, photos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    infer(identity_file, photos, "-o", out)
    (out / "b_x2.jpg").unlink()
    (out / "sub" / "c_x2.png").write_bytes(b"")  # nothing: a crash of the machine may leave it
    before = {name: (out / name).stat().st_mtime_ns for name in ("a_x2.png", "sub/deep/d_x2.bmp")}
    assert infer(identity_file, photos, "-o", out, "--skip-existing", "--json-log", log) == 2
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert {Path(entry["input"]).name: entry["status"] for entry in entries} == {
        **{"a.png": "skipped", "b.jpg": "done", "broken.png": "failed", "c.png": "done", "d.bmp": "skipped"}
    }
    assert files(out) == RESULTS and (out / "sub" / "c_x2.png").stat().st_size
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}


def test_results_beside_their_pictures_are_not_enlarged_again(identity_file: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    for _ in range(2):
        assert infer(identity_file, f"{tmp_path}/*.png", "--skip-existing") == 0
        assert infer(identity_file, *sorted(tmp_path.glob("*.png")), "--skip-existing") == 0
        assert infer(identity_file, tmp_path, "-o", tmp_path, "--skip-existing") == 0
    assert files(tmp_path) == ["a.png", "a_x2.png", "b.png", "b_x2.png"]


def test_results_inside_the_folder_are_not_enlarged_again(identity_file: Path, photos: Path) -> None:
    for _ in range(2):
        assert infer(identity_file, photos, "-o", photos / "out", "--skip-existing") == 2
    assert files(photos / "out") == RESULTS


def test_skipping_and_replacing_exclude_each_other(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        infer(identity_file, tmp_path / "a.png", "--skip-existing", "--overwrite")
    assert caught.value.code == 2 and "not allowed with argument" in capsys.readouterr().err


def test_a_log_is_never_written_into_a_picture_or_the_engine(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()
    for log in (source, identity_file, tmp_path / "a_x2.png", tmp_path, "-"):
        assert infer(identity_file, source, "--json-log", log) == 2
    assert infer(identity_file, source, "-o", tmp_path / "out", "--json-log", tmp_path / "out") == 2
    assert len(capsys.readouterr().err.splitlines()) == 6
    assert source.read_bytes() == before and files(tmp_path) == ["a.png"]


def test_a_folder_for_results_that_cannot_be_is_told_before_work(
    identity_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").write_text("kept")
    for place in (tmp_path / "plain" / "out", f"{tmp_path}/plain/"):
        assert infer(identity_file, photos, "-o", place) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot be a folder" in line and "plain is a file" in line
    assert (tmp_path / "plain").read_text() == "kept"


def test_a_file_in_the_place_of_one_folder_costs_its_pictures_only(
    identity_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("kept")
    assert infer(identity_file, photos, "-o", tmp_path / "out") == 2
    assert files(tmp_path / "out") == ["a_x2.png", "b_x2.jpg", "sub"]
    assert "3 of 5 pictures failed" in capsys.readouterr().err


def test_a_killed_runs_leftovers_are_removed(identity_file: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "sub").mkdir(parents=True)
    for place in ("", "sub/"):
        (tmp_path / "out" / f"{place}.sr-abcdefgh.part.png").write_bytes(b"half")
    infer(identity_file, photos, "-o", tmp_path / "out")
    assert files(tmp_path / "out") == RESULTS


@pytest.mark.parametrize(
    "name", [b"-x.png", b"a b.png", b"a\nb.png", b"\xff\xfe.png", "\u00fc\u202e.png".encode(), b"'\"$(x).png"]
)
def test_a_picture_of_an_odd_name_goes_through(
    identity_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    (tmp_path / "in").mkdir()
    text = os.fsdecode(name)
    Image.new("L", (9, 7)).save(tmp_path / "in" / "plain.png")
    (tmp_path / "in" / "plain.png").rename(tmp_path / "in" / text)
    monkeypatch.chdir(tmp_path / "in")
    result = text.replace(".png", "_x2.png")
    assert main(["--engine", str(identity_file), "--json-log", "../log", "--", text]) == 0
    assert files(Path()) == sorted([text, result])
    assert json.loads(Path("../log").read_text())["output"] == result
    Path(result).unlink()
    assert main(["--engine", str(identity_file), "-o", "../out", "."]) == 0
    assert files(Path("../out")) == [result]


def test_a_broken_name_is_shown_on_one_line(identity_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[31m.png").write_text("no picture")
    (line,) = error_lines(run(command(identity_file, tmp_path / "a\n\x1b[31m.png")))
    assert "a\\n\\x1b[31m.png: cannot be decoded" in line


def test_paths_go_to_standard_output_while_a_bar_is_shown(identity_file: Path, photos: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    line = command(identity_file, photos / "a.png", photos / "b.jpg", "-o", tmp_path / "out")
    done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, timeout=120, check=False)
    shown = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert done.stdout.decode().splitlines() == [str(tmp_path / "out" / name) for name in ("a_x2.png", "b_x2.jpg")]
    assert b"2/2" in shown and b"pictures/s" in shown


def test_a_reader_that_goes_away_ends_the_run_quietly(identity_file: Path, photos: Path, tmp_path: Path) -> None:
    done = run(["sh", "-c", '"$@" | true; exit 0', "sh", *command(identity_file, photos / "a.png", "-o", tmp_path / "out")])
    assert done.stderr == b"" and set(files(tmp_path / "out")) <= {"a_x2.png"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_what_fits(
    identity_file: Path, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        picture(tmp_path / f"{number}.png")
    picture(tmp_path / "2.png", (400, 400))
    log = tmp_path / "log"
    assert infer(identity_file, f"{tmp_path}/*.png", "-o", small_disk / "out", "--json-log", log) == 3
    lines = capsys.readouterr().err.splitlines()
    assert "2_x2.png: writing failed (No space left on device); nothing was changed" in lines[0]
    assert lines[-1] == (
        "sr-infer: the disk is full: 3 of 6 pictures were not tried; make room, then run it again with --skip-existing"
    )
    assert files(small_disk) == ["out/0_x2.png", "out/1_x2.png"] and len(log.read_text().splitlines()) == 3
    picture(tmp_path / "2.png")
    assert infer(identity_file, f"{tmp_path}/*.png", "-o", small_disk / "out", "--skip-existing") == 0
    assert len(files(small_disk)) == 6


def test_a_file_that_is_too_large_for_the_disk_costs_one_picture(identity_file: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (300, 300))
    picture(tmp_path / "b.png")

    line = command(identity_file, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out")
    done = run(["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *line])  # in blocks of 512 or 1024 bytes
    assert done.returncode == 3 and "a_x2.png: writing failed (File too large); nothing" in error_lines(done)[0]
    assert files(tmp_path / "out") == ["b_x2.png"]

"""Standard input and output: ``cat a.png | sr-infer --engine E - -o - > b.png``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.errors import InputError, MachineError
from sr_deploy.runtime.pictures import standard_streams as streams
from tests.runtime.command_runs import command, environment, error_lines, run


@pytest.fixture(scope="module")
def content() -> bytes:
    """A picture of 40x30 pixels, as PNG."""
    stream = BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_goes_through_a_pipe_and_nothing_else(identity_file: Path, tmp_path: Path, content: bytes) -> None:
    done = run(command(identity_file, "-", "-o", "-", "--json-log", tmp_path / "log"), content=content)
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(BytesIO(done.stdout)) as found:
        assert (found.format, found.size, found.mode) == ("PNG", (80, 60), "RGB")
    (tmp_path / "a.png").write_bytes(content)
    assert run(command(identity_file, tmp_path / "a.png", "-o", "-")).stdout == done.stdout
    assert run(command(identity_file, "-"), content=content).stdout == done.stdout
    assert run(command(identity_file, "-", "-o", tmp_path), content=content).stdout == f"{tmp_path}/stdin_x2.png\n".encode()
    assert (tmp_path / "stdin_x2.png").read_bytes() == done.stdout
    assert '"input": "standard input", "output": "-", "status": "done"' in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"", "is empty"),
        (b"no picture", "is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF picture"),
        (b"\x89P", "is no PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, which is not read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_one_line(identity_file: Path, wrong: bytes, said: str) -> None:
    done = run(command(identity_file, "-"), content=wrong)
    (line,) = error_lines(done)
    assert (done.returncode, done.stdout) == (2, b"") and line.startswith(f"sr-infer: standard input: {said}")


def test_half_a_picture_gives_no_part_of_one(identity_file: Path, content: bytes) -> None:
    done = run(command(identity_file, "-"), content=content[: len(content) // 2])
    assert (done.returncode, done.stdout, len(error_lines(done))) == (2, b"", 1)


def test_an_endless_stream_ends_in_one_line(identity_file: Path) -> None:
    with Path("/dev/zero").open("rb") as endless:
        done = run(command(identity_file, "-"), stdin=endless)
    assert done.returncode == 2 and "is no PNG" in error_lines(done)[0]


def test_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"GIF89a" + bytes(94))
    os.close(theirs)
    before = os.dup(0)
    os.dup2(ours, 0)
    try:
        with pytest.raises(InputError, match="standard input: has more than 99 bytes"), streams.standard_input(limit=99):
            pytest.fail("was let through")
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(ours)


def test_a_closed_stream_is_one_line(identity_file: Path, content: bytes) -> None:
    done = run(["sh", "-c", 'exec "$@" <&-', "sh", *command(identity_file, "-")])
    assert done.returncode == 2 and error_lines(done) == ["sr-infer: standard input: is closed; pipe a picture into it"]
    done = run(["sh", "-c", 'exec "$@" >&-', "sh", *command(identity_file, "-")], content=content)
    assert done.returncode == 2 and "standard output: is closed" in error_lines(done)[0]


def test_a_terminal_is_refused(identity_file: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    ours, theirs = os.openpty()
    try:
        done = run(command(identity_file, tmp_path / "a.png", "-o", "-"), stdout=theirs)
        assert done.returncode == 2 and "standard output: is a terminal" in error_lines(done)[0]
        done = run(command(identity_file, "-"), stdin=theirs)
        assert done.returncode == 2 and "standard input: is a terminal" in error_lines(done)[0]
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pipe_that_nobody_reads_is_quiet(identity_file: Path, content: bytes) -> None:
    line = command(identity_file, "-", "--scale", "4")
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.write(content)
        process.stdin.close()
        assert process.stderr.read() == b"" and process.wait(60) == 141


def test_a_full_disk_behind_standard_output_is_one_line(identity_file: Path, content: bytes) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(command(identity_file, "-"), content=content, stdout=full)
    assert done.returncode == 3
    assert error_lines(done) == ["sr-infer: standard output: writing failed (No space left on device); check the disk"]


def test_a_full_folder_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(os, "isatty", lambda number: False)
    with pytest.raises(MachineError, match=r"cannot be kept in a temporary file \(No such"), streams.standard_input():
        pytest.fail("was let through")


def test_other_pictures_go_along_with_standard_input(identity_file: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    done = run(command(identity_file, "-", tmp_path / "a.png", "-o", tmp_path / "out"), content=content)
    assert done.returncode == 0
    first, second = ((tmp_path / "out" / name).read_bytes() for name in ("stdin_x2.png", "a_x2.png"))
    assert np.array_equal(np.asarray(Image.open(BytesIO(first))), np.asarray(Image.open(BytesIO(second))))


def test_a_large_result_is_written_whole_into_a_slow_pipe(identity_file: Path, tmp_path: Path) -> None:
    Image.effect_noise((600, 500), 80).save(tmp_path / "a.png")
    done = run(["sh", "-c", '"$@" | (sleep 0.3; cat)', "sh", *command(identity_file, tmp_path / "a.png", "-o", "-")])
    with Image.open(BytesIO(done.stdout)) as found:
        found.load()
        assert found.size == (1200, 1000)

"""``--files-from``: what is a list of names, and what is none."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.runtime.infer.name_list import LONGEST, names_in
from tests.runtime.command_runs import command, error_lines, run


def names(folder: Path, content: bytes) -> list[str]:
    (folder / "list").write_bytes(content)
    return names_in(str(folder / "list"))


def picture_file(kind: str) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(content, kind)
    return content.getvalue()


def test_ends_of_lines_and_marks_of_windows(tmp_path: Path) -> None:
    for content in (b"a\n\nb c\n", b"a\0b c\0", b"a\0b c", b"\xef\xbb\xbfa\r\n\r\nb c", b"\n \na\nb c"):
        assert names(tmp_path, content) == ["a", "b c"], content
    assert names(tmp_path, b"\x01\xff*\n/\0b\0") == [os.fsdecode(b"\x01\xff*\n/"), "b"]  # as find -print0 may write it


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_picture_is_no_list(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="list: is no list of names but other data; give one name a line, or pictures without"):
        names(tmp_path, picture_file(kind))


def test_what_else_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no list of names but other data"):
        names(tmp_path, bytes(range(256)) * 8)
    with pytest.raises(InputError, match=f"is no list of names but a name of {LONGEST + 1} bytes"):
        names(tmp_path, b"a\n" + b"b" * (LONGEST + 1))
    with pytest.raises(InputError, match="is UTF-16; save it as UTF-8"):
        names(tmp_path, "a.png\n".encode("utf-16"))
    for nothing in (b"", b"\n", b"\0", b"\xef\xbb\xbf"):
        with pytest.raises(InputError, match="holds no name; give one a line"):
            names(tmp_path, nothing)


@pytest.mark.parametrize("name", ["", "none", "."])
def test_a_list_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--files-from {name}: cannot be read .*; name a file with a picture's name in each"):
        names_in(name)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device")  # noqa: PTH110
def test_a_list_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(InputError, match="/dev/zero: is no list of names"):
        names_in("/dev/zero")


def test_standard_input(identity_file: Path, tmp_path: Path) -> None:
    line = command(identity_file, "--files-from", "-", "-o", tmp_path / "out")
    for content, expected in (
        (b"", "--files-from -: holds no name"),
        (b"-\n", "-: no such file"),
        (b"\0\0\0a", "no list of names"),
    ):
        done = run(line, content=content)
        assert done.returncode == 2
        assert expected in error_lines(done)[-1]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *line], check=False, capture_output=True)
    assert done.returncode == 2
    assert "standard input: is closed; pipe names into it" in done.stderr.decode().splitlines()[-1]

"""Temporary files: those of a killed writer are removed, those in use never."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sr_deploy.files import replacing, write_bytes
from sr_deploy.temporary_files import new_temporary, remove_leftovers


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from sr_deploy.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.png")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".sr-") and left.read_bytes() == b"half"
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"new")
        assert remove_leftovers(tmp_path) == 0
    assert (tmp_path / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize("name", [".sr-abc.part.png", ".sr-abcdefgh.png", "sr-abcdefgh.part", ".sr-ABCDEFGH.part"])
def test_files_of_other_names_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert remove_leftovers(tmp_path) == 0
    assert (tmp_path / name).read_text() == "mine"


def test_only_plain_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".sr-aaaaaaaa.part").symlink_to("mine")
    (tmp_path / ".sr-bbbbbbbb.part").mkdir()
    assert remove_leftovers(tmp_path) == 0 and len(list(tmp_path.iterdir())) == 3
    assert remove_leftovers(tmp_path / "missing") == 0


def test_a_file_whose_lock_came_too_late_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    removed: list[Path] = []

    def late(handle: int, operation: int) -> None:
        if not removed:
            (path,) = tmp_path.iterdir()
            path.unlink()  # as another run does that finds it before it is locked
            removed.append(path)
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with replacing(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"new")
    assert removed and (tmp_path / "a.png").read_bytes() == b"new"


def test_a_file_system_without_locks_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with replacing(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"new")
        assert remove_leftovers(tmp_path) == 0
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_writers_and_a_cleaner_at_once_lose_nothing(tmp_path: Path) -> None:
    ended = threading.Event()

    def clean() -> None:
        while not ended.is_set():
            remove_leftovers(tmp_path)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(300):
            write_bytes(tmp_path / f"{number}.bin", str(number).encode())
    finally:
        ended.set()
        cleaner.join()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {f"{n}.bin": str(n) for n in range(300)}


def test_the_name_is_taken_for_a_temporary_one_later(tmp_path: Path) -> None:
    path, handle = new_temporary(tmp_path, ".a suffix\nof many characters")
    os.close(handle)
    assert path.exists() and remove_leftovers(tmp_path) == 1

"""``sr-infer --memory``: large pictures go by rows, and what fails leaves nothing behind."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.infer.command import main
from sr_deploy.runtime.large.estimate import in_memory_bytes
from sr_deploy.runtime.pictures.read import head_of
from tests.runtime.large.large_pictures import image

pytest.importorskip("pyvips")


@pytest.fixture
def tall(tmp_path: Path) -> Path:
    """Return the only picture of a folder."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "tall [one].png"  # libvips would take the brackets for options
    Image.fromarray(np.tile(np.asarray(image("RGB")), (12, 4, 1))).save(path)
    return path


def budget(picture: Path, engine: Path) -> str:
    """Return the most memory with which a picture goes by rows."""
    return str(in_memory_bytes(head_of(picture), load(engine, threads=1).card, 2) - 1)


def command(picture: Path, engine: Path) -> list[str]:
    program = [
        sys.executable,
        "-m",
        "sr_deploy.runtime.infer.command",
        "--engine",
        str(engine),
        "--memory",
        budget(picture, engine),
    ]
    return [*program, "-o", str(picture.parent / "out.png"), str(picture)]


@pytest.mark.slow
def test_a_large_picture_goes_by_rows_and_looks_the_same(
    tall: Path, random_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--engine", str(random_file), str(tall), "--times"]
    assert main([*arguments, "-o", str(tmp_path / "rows.png"), "--memory", budget(tall, random_file)]) == 0
    assert "by rows" in capsys.readouterr().err
    assert main([*arguments, "-o", str(tmp_path / "whole.png")]) == 0
    assert "by rows" not in capsys.readouterr().err
    rows, whole = (np.asarray(Image.open(tmp_path / name)) for name in ("rows.png", "whole.png"))
    assert np.array_equal(rows, whole)


def test_small_pictures_beside_a_large_one_are_done_too(
    tall: Path, random_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tall.with_name("small.png")
    image("L").save(small)
    arguments = [str(small), str(tall), str(small.with_name("missing.png"))]
    code = main(["--engine", str(random_file), *arguments, "-o", str(tmp_path / "out"), "--memory", budget(tall, random_file)])
    assert code == 2 and "missing.png: no such file" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["small_x2.png", "tall [one]_x2.png"]


def test_too_little_memory_is_told_in_one_line(tall: Path, random_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine", str(random_file), str(tall), "--memory", "64M"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "388x3612 pixels take" in error and "64 MB may be used" in error
    assert list(tall.parent.iterdir()) == [tall]


def test_a_full_disk_leaves_nothing(tall: Path, random_file: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(command(tall, random_file), preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "out.png: writing failed (File too large); nothing was changed" in done.stderr
    assert list(tall.parent.iterdir()) == [tall]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_nothing(tall: Path, random_file: Path, number: signal.Signals, code: int) -> None:
    child = subprocess.Popen(command(tall, random_file), stderr=subprocess.PIPE, text=True)
    while not any(path.name.startswith(".sr-") and path.stat().st_size for path in tall.parent.iterdir()):  # rows are written
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(number)
    _, error = child.communicate(timeout=120)
    assert child.returncode == code and error.count("\n") == 1
    assert list(tall.parent.iterdir()) == [tall]

"""A run that is killed at any moment leaves whole results only, and the next one does what is missing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.runtime.pictures.read import read_pixels
from tests.runtime.command_runs import command, environment, run

COUNT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures whose results take a moment to write."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        Image.effect_noise((150 + 5 * number, 90), 60 + number).convert("RGB").save(folder / f"{number:02}.png")
    return folder


def start_and_kill(line: list[str], after: int, pause_s: float, number: signal.Signals) -> int:
    """Start a run, send a signal a moment after its results are ``after`` in number, and return how it ended."""
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        time.sleep(pause_s)
        process.send_signal(number)
        process.stdout.read()
        return process.wait(60)


def check(folder: Path, out: Path) -> list[str]:
    """Check that every result is whole, and return what else lies there."""
    others = []
    for path in out.iterdir() if out.is_dir() else []:
        if path.name.startswith("."):
            others.append(path.name)
            continue
        source = read_pixels(folder / path.name.replace("_x1.png", ".png"))
        assert np.abs(read_pixels(path).astype(int) - source).max() <= 2  # the network returns its input; colour is rounded
    return others


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_is_finished_by_the_next(identity_file: Path, folder: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    line = command(identity_file, folder, "-o", out, "--scale", "1", "--skip-existing", "--json-log", log)
    chance = random.Random(0)
    done = 0
    for _ in range(6):
        assert start_and_kill(line, chance.randint(0, 4), chance.uniform(0, 0.05), signal.SIGKILL) in (-signal.SIGKILL, 0)
        assert len(check(folder, out)) <= 1
        found = len([path for path in out.glob("*.png") if not path.name.startswith(".")]) if out.is_dir() else 0
        assert found >= done
        done = found
    before = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}
    last = run(line)
    assert last.returncode == 0 and len(last.stdout.splitlines()) == COUNT - len(before)
    assert check(folder, out) == [] and len(list(out.iterdir())) == COUNT
    assert before == {path: path.stat().st_mtime_ns for path in before}
    entries = [json.loads(text) for text in log.read_text().splitlines() if text.startswith("{") and text.endswith("}")]
    assert {Path(entry["output"]).name for entry in entries if entry["status"] == "done"} >= {
        path.name for path in out.iterdir() if path not in before
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_leaves_nothing_unfinished(
    identity_file: Path, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    line = command(identity_file, folder, "-o", tmp_path / "out", "--scale", "1")
    assert start_and_kill(line, 2, 0.02, number) == 128 + number
    assert check(folder, tmp_path / "out") == []


def test_two_runs_into_one_folder_leave_each_other_alone(identity_file: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = command(identity_file, folder, "-o", out, "--scale", "1", "--skip-existing")
    runs = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()) for _ in range(2)]
    assert [process.wait(120) for process in runs] == [0, 0]
    assert check(folder, out) == [] and len(list(out.iterdir())) == COUNT

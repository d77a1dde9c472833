"""What becomes of a video's result when ``sr-infer`` is stopped or fails on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sr_deploy.runtime.infer.command import main
from tests.runtime import tiny_onnx as tiny

av = pytest.importorskip("av")

from tests.runtime.video import video_clips as clips  # noqa: E402
from tests.runtime.video.video_clips import Clip  # noqa: E402

COUNT = 200
SLOW = """
import sys, time
from sr_deploy.runtime.infer import run as infer
from sr_deploy.runtime.infer.command import main
load = infer.load
runs = 0
def slow(*arguments, **options):
    engine = load(*arguments, **options)
    run = engine.run
    def counted(tiles):
        global runs
        runs += 1
        if runs == 150:
            print("ready", flush=True)
        if runs > 150:
            time.sleep(0.2)
        if runs == 154 and "fail" in sys.argv[1]:
            from sr_deploy.errors import EngineError
            raise EngineError("the device is gone")
        return run(tiles)
    engine.run = counted
    if "threads" in sys.argv[1]:
        engine.provider = "a device"
    return engine
infer.load = slow
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def engine_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine that returns its input; one tile a frame."""
    return tiny.write(tmp_path_factory.mktemp("engine") / "identity.onnx", tiny.zero_weights((2, 1)), (1, 1, 64, 96))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 200 frames and sound."""
    return clips.write(tmp_path_factory.mktemp("video") / "a.mp4", Clip(count=COUNT, audio=True))


def started(mode: str, engine: Path, video: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    """Start ``sr-infer`` on a video and return when three quarters of it went through the engine."""
    command = [sys.executable, "-c", SLOW, mode, "--engine", engine, "--threads", "1", video, "-o", output, *options]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("mode", ["turns", "threads"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_video_plays_as_far_as_it_came(
    engine_file: Path, video: Path, tmp_path: Path, number: signal.Signals, mode: str
) -> None:
    process = started(mode, engine_file, video, tmp_path / "b.mp4")
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 128 + number
    assert [p.name for p in tmp_path.iterdir()] == ["b.part.mp4"]
    done = len(clips.frames(tmp_path / "b.part.mp4"))
    assert 140 <= done < COUNT
    assert said[0].endswith(f"b.mp4: interrupted after {done} frames; {tmp_path / 'b.part.mp4'} holds them and plays")
    assert said[1] == f"sr-infer: {'interrupted' if number == signal.SIGINT else 'terminated'}"
    assert clips.shown_ms(tmp_path / "b.part.mp4") == clips.shown_ms(video)[:done]
    assert len(clips.packets(tmp_path / "b.part.mp4", "audio")) > 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts"])
def test_killed_video_plays(engine_file: Path, video: Path, tmp_path: Path, suffix: str) -> None:
    options = ("--codec", "libvpx-vp9", "--crf", "60") if suffix == ".webm" else ()
    process = started("turns", engine_file, video, tmp_path / f"b{suffix}", *options)
    process.kill()
    process.communicate(timeout=60)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".claim"] == [f"b.part{suffix}"]  # the next run removes the claim
    done = clips.shown_ms(tmp_path / f"b.part{suffix}")
    assert len(done) > 30  # an encoder holds some dozens back
    assert [t - done[0] for t in done] == clips.shown_ms(video)[: len(done)]


def test_second_run_does_what_the_first_did_not(engine_file: Path, video: Path, tmp_path: Path) -> None:
    process = started("turns", engine_file, video, tmp_path / "b.mp4")
    process.kill()
    process.communicate(timeout=60)
    before = (tmp_path / "b.part.mp4").read_bytes()
    assert main(["--engine", str(engine_file), "--threads", "1", str(video), "-o", str(tmp_path / "b.mp4")]) == 0
    assert len(clips.frames(tmp_path / "b.mp4")) == COUNT
    assert {p.name for p in tmp_path.iterdir()} == {"b.mp4", "b.part.mp4"}
    assert (tmp_path / "b.part.mp4").read_bytes() == before


def test_engine_that_fails_leaves_what_was_done(engine_file: Path, video: Path, tmp_path: Path) -> None:
    process = started("fail", engine_file, video, tmp_path / "b.mp4")
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 3
    assert "the engine failed after 153 frames" in said[0] and "the device is gone" in said[1]
    assert len(clips.frames(tmp_path / "b.part.mp4")) == 153


def test_full_disk_is_one_line_and_leaves_nothing(engine_file: Path, video: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: FFmpeg sees an error of ``write`` either way."""
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); import sys; "
    limited += "from sr_deploy.runtime.infer.command import main; sys.exit(main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        limited,
        "--engine",
        engine_file,
        "--threads",
        "1",
        video,
        "-o",
        tmp_path / "b.mp4",
        "--crf",
        "5",
    ]
    found = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 3
    assert found.stderr == (
        f"sr-infer: {tmp_path / 'b.mp4'}: writing failed (File too large); make room on the disk, or choose another place\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_line(
    engine_file: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["--engine", str(engine_file), str(video), "-o", str(tmp_path / "file" / "b.mp4")]) == 2
    assert "cannot be a folder" in capsys.readouterr().err

"""Videos as users bring them: wrong, damaged, missing; and what is never touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from tests.helpers.cli import error_lines, infer  # noqa: E402
from tests.runtime.video import video_clips as clips  # noqa: E402
from tests.runtime.video.video_clips import Clip  # noqa: E402


def test_pictures_and_videos_mix(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_noise((20, 12), 60).save(tmp_path / "p.png")
    video = clips.write(tmp_path / "a.mp4", Clip(count=2))
    assert infer(engine_file, video, tmp_path / "p.png", tmp_path / "none.mkv", "-o", tmp_path / "out") == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_x2.mp4", "p_x2.png"]
    assert error_lines(capsys) == [
        f"sr-infer: {tmp_path / 'none.mkv'}: cannot be read (No such file or directory); name a video",
        "sr-infer: 1 of 3 pictures failed",
        f"sr-infer: 1 cannot be read: {tmp_path / 'none.mkv'}",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.png"], "videos are written as .mp4"),
        (["-o", "out.mp4", "--codec", "nothing"], "PyAV has no such encoder"),
        (["-o", "out.mp4", "--codec", "aac"], "encodes audio, not moving pictures"),
        (["-o", "out.mkv", "--codec", "ffv1", "--crf", "10"], "ffv1 has no constant quality"),
        (["-o", "out.mp4", "--crf", "52"], "libx264 takes 0 to 51"),
        (["-o", "out.webm", "--codec", "libx264"], "libx264 cannot write 80x60 pixels"),
    ],
)
def test_wrong_options_are_one_line(
    engine_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    clips.write(Path("a.mp4"), Clip(count=2))
    assert infer(engine_file, "a.mp4", *arguments) == 2
    lines = error_lines(capsys)
    assert len(lines) == 1 and message in lines[0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_existing_files_stay(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips.write(tmp_path / "a.mp4", Clip(count=2))
    (tmp_path / "a_x2.mp4").write_bytes(b"mine")
    (tmp_path / "a_x2.part.mp4").write_bytes(b"mine too")
    assert infer(engine_file, source) == 2
    assert "exists already; add --overwrite" in error_lines(capsys)[0]
    assert (tmp_path / "a_x2.mp4").read_bytes() == b"mine"
    assert infer(engine_file, source, "--overwrite") == 0
    assert len(clips.frames(tmp_path / "a_x2.mp4")) == 2
    assert (tmp_path / "a_x2.part.mp4").read_bytes() == b"mine too"


def test_input_is_never_replaced(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips.write(tmp_path / "a.mp4", Clip(count=2))
    content = source.read_bytes()
    assert infer(engine_file, source, "-o", source, "--overwrite") == 2
    assert "is the input itself" in error_lines(capsys)[0]
    assert source.read_bytes() == content


def test_other_suffixes_become_matroska(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.avi", Clip(codec="mpeg4", options={}))
    assert infer(engine_file, source) == 0
    assert clips.shown_ms(tmp_path / "a_x2.mkv") == [0, 40, 80, 120, 160, 200]


def test_unreadable_files_are_one_line(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = clips.write(tmp_path / "good.mp4")
    bad = {
        "empty.mp4": b"",
        "noise.mkv": np.random.default_rng(0).bytes(5000),
        "head.mp4": good.read_bytes()[:200],
        "list.mp4": b"ffconcat version 1.0\nfile good.mp4\n",  # would open another file
        "play.mp4": b"#EXTM3U\n#EXTINF:1,\ngood.mp4\n#EXT-X-ENDLIST\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.mp4").mkdir()
    names = [*bad, "folder.mp4"]
    assert infer(engine_file, *(tmp_path / name for name in names), "-o", tmp_path / "out") == 2
    lines = error_lines(capsys)
    told = lines[: len(names)]
    assert lines[len(names)] == f"sr-infer: {len(names)} of {len(names)} pictures failed"
    for name in names:
        assert sum(str(tmp_path / name) in line for line in told) == 1
    assert not (tmp_path / "out").exists()


def test_sound_alone_is_no_video(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=clips.AUDIO_RATE)
        for index in range(3):
            container.mux(audio.encode(clips.sound(index)))
        container.mux(audio.encode(None))
    assert infer(engine_file, tmp_path / "a.mp4") == 2
    assert "holds no moving pictures" in error_lines(capsys)[0]


def test_cut_off_video_is_done_as_far_as_it_goes(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = clips.write(tmp_path / "a.mkv", Clip(count=60, size=(64, 48))).read_bytes()
    (tmp_path / "b.mkv").write_bytes(content[: len(content) // 2])
    assert infer(engine_file, tmp_path / "b.mkv") == 0
    assert 20 < len(clips.frames(tmp_path / "b_x2.mkv")) < 40
    assert "of 2.4 seconds: it is cut off or damaged" in error_lines(capsys)[-1]


def test_damaged_packets_are_passed_over_and_counted(
    engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(count=20, options={"crf": "20"}))
    content, hit = bytearray(source.read_bytes()), clips.packets(source, "video")[10][0]
    start = content.find(hit)
    content[start : start + len(hit)] = bytes(len(hit))
    source.write_bytes(content)
    assert infer(engine_file, source) == 0
    assert any("is damaged: 1 packets were passed over" in line for line in error_lines(capsys))
    assert len(clips.frames(tmp_path / "a_x2.mkv")) == 19


def test_size_that_changes_is_refused(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [clips.write(tmp_path / f"{w}.ts", Clip(size=(w, 32))).read_bytes() for w in (48, 64)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    assert infer(engine_file, tmp_path / "a.ts") == 2
    assert "its frames change from 48x32 to 64x32 pixels" in error_lines(capsys)[-1]
    assert not list(tmp_path.glob("a_x2*"))


def test_interlaced_video_is_told_about(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"x264-params": "interlaced=1", "preset": "ultrafast"}
    assert infer(engine_file, clips.write(tmp_path / "a.mp4", Clip(size=(64, 64), options=options))) == 0
    assert "is interlaced" in error_lines(capsys)[0]


def test_missing_pyav_is_one_line(
    engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert infer(engine_file, tmp_path / "a.mp4") == 3
    assert error_lines(capsys) == ["sr-infer: package av is not installed; pip install 'sr-deploy[video]'"]


def test_names_are_not_urls(engine_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "concat:a|b.mp4", "-a %03d é\n.mp4"):
        shutil.copy(clips.write(tmp_path / "plain.mp4", Clip(count=1)), name)
        assert infer(engine_file, f"./{name}") == 0
        assert len(clips.frames(Path("./" + name.replace(".mp4", "_x2.mp4")).resolve())) == 1

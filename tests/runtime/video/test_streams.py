"""What goes into the result beside the frames: sound, subtitles, covers, chapters."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from tests.helpers.cli import error_lines, infer  # noqa: E402
from tests.runtime.video import video_clips as clips  # noqa: E402
from tests.runtime.video.video_clips import Clip  # noqa: E402


@pytest.mark.parametrize(
    ("suffix", "to"), [(".mp4", ".mp4"), (".mp4", ".mkv"), (".mkv", ".mkv"), (".mkv", ".mov"), (".mkv", ".mp4")]
)
def test_sound_is_copied(engine_file: Path, tmp_path: Path, suffix: str, to: str) -> None:
    """Bit for bit, and as far from the first frame as before; PCM is cut into other packets in MOV and MP4."""
    source, result = clips.write(tmp_path / f"a{suffix}", Clip(count=10, audio=True)), tmp_path / f"b{to}"
    assert infer(engine_file, source, "-o", result) == 0
    before, after = clips.packets(source, "audio"), clips.packets(result, "audio")
    assert b"".join(data for data, _ in before) == b"".join(data for data, _ in after)
    first = [path_times[0] / 1000 for path_times in (clips.shown_ms(source), clips.shown_ms(result))]
    if suffix != ".mkv" or to == ".mkv":
        apart = [[float(at) - zero for _, at in found] for found, zero in ((before, first[0]), (after, first[1]))]
        assert apart[0] == pytest.approx(apart[1], abs=0.0011)  # Matroska counts milliseconds


def with_cover(source: Path, path: Path, *, pictures: bool) -> Path:
    """Write a video, or only its sound, with a cover picture."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        kept = [s for s in given.streams if pictures or s.type != "video"]
        new = {s.index: container.add_stream_from_template(s) for s in kept}
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "rgb24")
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
        for packet in given.demux(*kept):
            if packet.size:
                packet.stream = new[packet.stream_index]
                container.mux(packet)
    return path


def test_cover_alone_is_no_video(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = with_cover(clips.write(tmp_path / "a.mp4", Clip(audio=True)), tmp_path / "b.mp4", pictures=False)
    assert infer(engine_file, source) == 2
    assert "holds only a cover picture" in error_lines(capsys)[0]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_is_copied(engine_file: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = with_cover(clips.write(tmp_path / "a.mp4", Clip(audio=True)), tmp_path / "b.mp4", pictures=True)
    assert infer(engine_file, source, "-o", tmp_path / f"c{suffix}") == 0
    assert error_lines(capsys) == []
    with av.open(str(tmp_path / f"c{suffix}")) as video:
        covers = [s for s in video.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        assert [(c.codec_context.name, c.codec_context.width) for c in covers] == [("png", 16)]
        assert video.streams.video[0].codec_context.width == 80


def with_subtitle(source: Path, path: Path, text: bytes = b"Hello") -> Path:
    """Write a video with a subtitle of Matroska's own kind."""
    (path.parent / "s.srt").write_bytes(b"1\n00:00:00,040 --> 00:00:00,120\n" + text + b"\n")
    with av.open(str(source)) as given, av.open(str(path.parent / "s.srt")) as lines, av.open(str(path), "w") as container:
        video, subtitle = (container.add_stream_from_template(c.streams[0]) for c in (given, lines))
        subtitle.metadata["language"] = "ger"
        for opened, stream in ((given, video), (lines, subtitle)):
            for packet in opened.demux(opened.streams[0]):
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    return path


def test_subtitles_are_copied_or_named(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = with_subtitle(clips.write(tmp_path / "a.mp4"), tmp_path / "b.mkv")
    assert infer(engine_file, source) == 0
    assert error_lines(capsys) == []
    assert clips.packets(tmp_path / "b_x2.mkv", "subtitle") == [(b"Hello", Fraction(40, 1000))]
    with av.open(str(tmp_path / "b_x2.mkv")) as video:
        assert video.streams.subtitles[0].language == "ger"
    assert infer(engine_file, source, "-o", tmp_path / "c.mp4") == 0
    assert error_lines(capsys) == [
        f"sr-infer: warning: {source}: stream 1 (subtitle, srt, ger) is left out: .mp4 does not hold it"
    ]


def test_chapters_are_kept(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chapter = {"id": 1, "start": 0, "end": 120, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
    plain = clips.write(tmp_path / "a.mp4")
    with av.open(str(plain)) as given, av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        container.set_chapters([chapter])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    for suffix in (".mp4", ".mkv"):
        assert infer(engine_file, tmp_path / "b.mp4", "-o", tmp_path / f"c{suffix}") == 0
        with av.open(str(tmp_path / f"c{suffix}")) as video:
            assert [c["metadata"]["title"] for c in video.chapters()] == ["one"]
    assert error_lines(capsys) == []

"""``sr-infer`` on videos: frames, times, sound, colour, orientation, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.card import seal
from sr_deploy.degrade import imresize
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.upscaling.tiling import run_whole
from tests.runtime import tiny_onnx as tiny

av = pytest.importorskip("av")

from sr_deploy.runtime.video.frames import PixelFormat, closest_format, parse_format, plane_view  # noqa: E402
from sr_deploy.runtime.video.options import VideoOptions  # noqa: E402
from sr_deploy.runtime.video.run import VideoRun  # noqa: E402
from tests.helpers.cli import error_lines, infer  # noqa: E402
from tests.runtime.video import video_clips as clips  # noqa: E402
from tests.runtime.video.video_clips import Clip  # noqa: E402

LOSSLESS = ("--codec", "ffv1")


def test_result_lies_beside_the_video(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(engine_file, clips.write(tmp_path / "a.mp4")) == 0
    assert capsys.readouterr() == (f"{tmp_path / 'a_x2.mp4'}\n", "")
    found = clips.frames(tmp_path / "a_x2.mp4")
    assert [(f.width, f.height) for f in found] == [(80, 60)] * 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a_x2.mp4"]


def test_frames_come_out_as_they_went_in(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(codec="ffv1", options={}))
    assert infer(engine_file, source, "-o", tmp_path / "b.mkv", "--scale", "1", *LOSSLESS) == 0
    for before, after in zip(clips.frames(source), clips.frames(tmp_path / "b.mkv"), strict=True):
        form = parse_format(before.format.name)
        assert form is not None and after.format.name == before.format.name
        for index in range(3):
            assert np.array_equal(plane_view(before, index, form), plane_view(after, index, form))


@pytest.mark.parametrize(
    ("form", "color_range"), [("yuv420p", 1), ("yuv420p", 2), ("yuv420p10le", 1), ("gray", 1), ("yuv444p", 2)]
)
def test_luma_is_what_the_network_makes_of_it(engine_file: Path, tmp_path: Path, form: str, color_range: int) -> None:
    """With a network that returns its input it is the bicubic enlargement, in every range and depth."""
    source = clips.write(tmp_path / "a.mkv", Clip(form=form, color_range=color_range, codec="ffv1", options={}, count=2))
    assert infer(engine_file, source, *LOSSLESS) == 0
    top = 1023 if form.endswith("10le") else 255
    for before, after in zip(clips.luma_planes(source), clips.luma_planes(tmp_path / "a_x2.mkv"), strict=True):
        expected = np.clip(np.rint(imresize(before.astype(np.float32), 2.0)), 0, top)
        off = np.abs(after.astype(np.float32) - expected)
        assert off.max() <= 1.0 and (off > 0).mean() < 0.01  # sums of float32 that lie on a half round either way


def test_h264_without_loss_has_the_same_luma(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mp4", Clip(count=3))
    assert infer(engine_file, source, "--crf", "0") == 0
    for before, after in zip(clips.luma_planes(source), clips.luma_planes(tmp_path / "a_x2.mp4"), strict=True):
        assert np.abs(after - np.clip(np.rint(imresize(before.astype(np.float32), 2.0)), 0, 255)).max() <= 1.0


IRREGULAR = [77, 154, 213, 262, 291, 323, 333, 446, 1054, 1075]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_irregular_times_are_kept(engine_file: Path, tmp_path: Path, suffix: str) -> None:
    source = clips.write(tmp_path / f"a{suffix}", Clip(pts=IRREGULAR, audio=True))
    assert infer(engine_file, source) == 0
    assert clips.shown_ms(source) == clips.shown_ms(tmp_path / f"a_x2{suffix}") == IRREGULAR


def test_times_in_ts_differ_by_no_more_than_their_start(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.ts", Clip(pts=IRREGULAR))
    assert infer(engine_file, source) == 0
    before, after = (np.array(clips.shown_ms(path)) for path in (source, tmp_path / "a_x2.ts"))
    assert np.array_equal(np.diff(before), np.diff(after))


def test_shape_of_pixels_that_is_lost_is_told(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips.write(tmp_path / "a.mp4", Clip(aspect=Fraction(4, 3), count=1))
    assert infer(engine_file, source, "-o", tmp_path / "b.webm") == 0
    assert "pixels of shape 4:3, which PyAV cannot write with libvpx-vp9: they become square" in error_lines(capsys)[0]


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("tags", [(1, 1, 1), (9, 9, 16), (6, 6, 6)])
def test_tags_of_colour_are_kept(engine_file: Path, tmp_path: Path, tags: tuple[int, int, int], color_range: int) -> None:
    clip = Clip(tags=tags, color_range=color_range, aspect=Fraction(4, 3), count=2)
    assert infer(engine_file, clips.write(tmp_path / "a.mp4", clip)) == 0
    frame = clips.frames(tmp_path / "a_x2.mp4")[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == tags
    assert frame.color_range == color_range
    with av.open(str(tmp_path / "a_x2.mp4")) as video:
        assert video.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert video.metadata["title"] == "a title"


@pytest.mark.parametrize("form", ["yuv420p10le", "yuv422p", "yuv444p", "yuv422p10le"])
def test_pixel_format_follows_the_video(engine_file: Path, tmp_path: Path, form: str) -> None:
    assert infer(engine_file, clips.write(tmp_path / "a.mp4", Clip(form=form, count=2))) == 0
    assert clips.frames(tmp_path / "a_x2.mp4")[0].format.name == form


def test_depth_that_the_encoder_lacks_is_told(engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips.write(tmp_path / "a.mp4", Clip(form="yuv420p10le", count=2))
    assert infer(engine_file, source, "-o", tmp_path / "b.webm") == 0
    assert "has 10-bit samples, which libvpx-vp9 does not hold: written as yuv420p" in error_lines(capsys)[0]


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        (PixelFormat(depth=10), ["yuv420p", "yuv420p10le", "yuv444p10le"], "yuv420p10le"),
        (PixelFormat((1, 1)), ["yuv420p", "yuv422p"], "yuv422p"),
        (PixelFormat(depth=10), ["yuv444p", "yuv420p", "nv12"], "yuv420p"),
        (PixelFormat(alpha=True), ["yuv420p", "yuva420p"], "yuva420p"),
        (PixelFormat((1, 1), grey=True), ["yuv444p", "yuv420p"], "yuv420p"),
        (PixelFormat(), ["gray", "yuv444p"], "yuv444p"),
    ],
)
def test_nearest_format_loses_least(wanted: PixelFormat, offered: list[str], expected: str) -> None:
    found = closest_format(wanted, offered)
    assert found is not None and found.name == expected


@pytest.mark.parametrize("form", ["rgb24", "bgr0"])
def test_videos_of_rgb_become_bt709(engine_file: Path, tmp_path: Path, form: str) -> None:
    codec = "png" if form == "rgb24" else "ffv1"
    source = clips.write(
        tmp_path / "a.mov" if form == "rgb24" else tmp_path / "a.mkv", Clip(form=form, codec=codec, options={}, count=2)
    )
    assert infer(engine_file, source, "-o", tmp_path / "b.mkv", "--scale", "1", *LOSSLESS) == 0
    after = clips.frames(tmp_path / "b.mkv")[0]
    assert (after.format.name, after.colorspace, after.color_range) == ("yuv444p", 1, 1)
    before = clips.frames(source)[0].to_ndarray(format="rgb24").astype(int)
    shown = after.to_ndarray(format="rgb24", src_colorspace=1, src_color_range=1).astype(int)
    assert np.abs(shown - before).max() <= 4 and np.abs(shown - before).mean() < 1  # 8-bit Y'CbCr, and FFmpeg's way back


def test_alpha_is_enlarged_too(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(form="yuva420p", codec="ffv1", options={}, count=2))
    assert infer(engine_file, source, *LOSSLESS) == 0
    form = parse_format("yuva420p")
    before, after = clips.frames(source)[0], clips.frames(tmp_path / "a_x2.mkv")[0]
    assert form is not None and after.format.name == "yuva420p"
    expected = np.clip(np.rint(imresize(np.asarray(plane_view(before, 3, form), np.float32), 2.0)), 0, 255)
    assert np.array_equal(plane_view(after, 3, form), expected)


TURNS: dict[tuple[int, ...], Callable[[NDArray[np.generic]], NDArray[np.generic]]] = {  # display matrix -> what is shown
    (0, 1, 0, -1, 0, 0): lambda a: np.rot90(a, -1),
    (-1, 0, 0, 0, -1, 0): lambda a: np.rot90(a, 2),
    (0, -1, 0, 1, 0, 0): lambda a: np.rot90(a, 1),
    (-1, 0, 0, 0, 1, 0): lambda a: a[:, ::-1],
    (1, 0, 0, 0, -1, 0): lambda a: a[::-1],
    (0, 1, 0, 1, 0, 0): lambda a: a.T,
}


@pytest.mark.parametrize("signs", TURNS)
def test_turned_videos_come_out_upright(engine_file: Path, tmp_path: Path, signs: tuple[int, ...]) -> None:
    matrix = [*(v * 65536 for v in signs), 0, 0, 1 << 30]
    clip = Clip(size=(40, 30), matrix=matrix, aspect=Fraction(4, 3), count=2)
    source = clips.write(tmp_path / "a.mp4", clip)
    assert infer(engine_file, source, "-o", tmp_path / "b.mkv", "--scale", "1", "--crf", "0") == 0
    after = clips.frames(tmp_path / "b.mkv")
    assert after[0].rotation == 0
    assert np.array_equal(clips.luma_planes(tmp_path / "b.mkv")[0], TURNS[signs](clips.luma_planes(source)[0]))
    with av.open(str(tmp_path / "b.mkv")) as video:
        assert video.streams.video[0].sample_aspect_ratio == (Fraction(3, 4) if signs[0] == 0 else Fraction(4, 3))


def test_upright_is_what_ffmpeg_says_it_is(tmp_path: Path) -> None:
    """The matrix of a telephone held upright, 90 degrees clockwise (ISO/IEC 14496-12): FFmpeg names the angle the other way."""
    source = clips.write(tmp_path / "a.mp4", Clip(matrix=[0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], count=1))
    assert clips.frames(source)[0].rotation == -90


@pytest.mark.parametrize(
    ("size", "scale", "codec", "expected"),
    [
        ((33, 25), "2", "libx264", (66, 50)),
        ((33, 25), "3", "libx264", (100, 76)),
        ((33, 25), "3", "ffv1", (99, 75)),
    ],
)
def test_odd_sizes_work(
    engine_file: Path, tmp_path: Path, size: tuple[int, int], scale: str, codec: str, expected: tuple[int, int]
) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(size=size, codec="ffv1", options={}, count=2))
    assert infer(engine_file, source, "-o", tmp_path / "b.mkv", "--scale", scale, "--codec", codec) == 0
    assert (clips.frames(tmp_path / "b.mkv")[0].width, clips.frames(tmp_path / "b.mkv")[0].height) == expected


def test_row_that_is_added_repeats_the_last(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(size=(33, 25), codec="ffv1", options={}, count=1))
    assert infer(engine_file, source, "-o", tmp_path / "b.mkv", "--scale", "1", "--crf", "0") == 0
    luma = clips.luma_planes(tmp_path / "b.mkv")[0]
    assert np.array_equal(luma[:25, :33], clips.luma_planes(source)[0])
    assert np.array_equal(luma[25], luma[24]) and np.array_equal(luma[:, 33], luma[:, 32])


@pytest.mark.parametrize(("batch", "expected"), [(1, [1] * 6), (4, [4, 2])])
def test_tiles_of_several_frames_share_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, expected: list[int]
) -> None:
    engine = load(tiny.write(tmp_path / "e.onnx", tiny.random_weights((4, 1)), (batch, 1, 84, 84)), threads=1)
    source, counts, run = clips.write(tmp_path / "a.mkv", Clip(codec="ffv1", options={}, count=6)), [], engine.run

    def counted(tiles: Tiles) -> Tiles:
        counts.append(len(tiles))
        return run(tiles)

    monkeypatch.setattr(engine, "run", counted)
    VideoRun(engine, 2, VideoOptions("ffv1", overlap=False)).run(source, tmp_path / "b.mkv")
    assert counts == expected
    for before, after in zip(clips.luma_planes(source), clips.luma_planes(tmp_path / "b.mkv"), strict=True):
        large = imresize(before.astype(np.float32), 2.0) / np.float32(255.0)
        alone = run_whole(engine, large[None])[0] * np.float32(255.0)
        assert np.array_equal(after, np.clip(np.rint(alone), 0, 255))


def test_stages_in_threads_give_the_same_video(engine_file: Path, tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(codec="ffv1", options={}, audio=True, count=12))
    engine = load(engine_file, threads=1)
    for overlap in (True, False):
        VideoRun(engine, 2, VideoOptions("ffv1", overlap=overlap)).run(source, tmp_path / f"{overlap}.mkv")
    for threads, turns in zip(*(clips.luma_planes(tmp_path / f"{overlap}.mkv") for overlap in (True, False)), strict=True):
        assert np.array_equal(threads, turns)
    assert clips.packets(tmp_path / "True.mkv", "audio") == clips.packets(source, "audio")
    assert clips.shown_ms(tmp_path / "True.mkv") == clips.shown_ms(source)


def rgb_engine(folder: Path) -> Engine:
    """Return an engine of RGB tiles that returns its input."""
    shape = (1, 3, 32, 32)
    weights = (np.zeros((3, 3, 3, 3), np.float32),)
    card = tiny.card_of(weights, shape).with_changes(color="rgb")
    path = folder / "rgb.onnx"
    path.write_bytes(seal(tiny.model_of(tiny.graph_of(weights, shape), card.to_json()), source=path.name))
    return load(path, threads=1)


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_rgb_networks_keep_matrix_and_range(tmp_path: Path, matrix: int, color_range: int) -> None:
    levels = np.tile(np.linspace(60, 180, 40).astype(np.uint8), (30, 1))
    colour = np.tile(np.linspace(110, 140, 20).astype(np.uint8), (15, 1))
    clip = Clip(codec="ffv1", options={}, tags=(matrix, 2, 2), color_range=color_range, luma=levels, colour=colour, count=1)
    source = clips.write(tmp_path / "a.mkv", clip)
    VideoRun(rgb_engine(tmp_path), 1, VideoOptions("ffv1", overlap=False)).run(source, tmp_path / "b.mkv")
    before, after = clips.frames(source)[0], clips.frames(tmp_path / "b.mkv")[0]
    form = parse_format(before.format.name)
    assert form is not None and (after.colorspace, after.color_range) == (matrix, color_range)
    for index in range(3):
        a, b = (plane_view(frame, index, form).astype(int) for frame in (before, after))
        assert np.abs(a - b).max() <= 1  # nothing but rounding: no 8-bit RGB in between


def test_grey_video_through_an_rgb_network_stays_grey(tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mkv", Clip(form="gray", codec="ffv1", options={}, count=1))
    VideoRun(rgb_engine(tmp_path), 1, VideoOptions("ffv1", overlap=False)).run(source, tmp_path / "b.mkv")
    before, after = clips.luma_planes(source)[0], clips.luma_planes(tmp_path / "b.mkv")[0]
    assert np.abs(before.astype(int) - after).max() <= 1

"""All frames of an animation and all pages of a document, one after the other and shown as before."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.png_file import with_chunks
from sr_deploy.runtime.pictures.read import read_picture
from sr_deploy.runtime.upscaling.upscaling import FramesUpscaling, upscale
from tests.helpers.cli import infer

ALL = Reading(frames=True)


def animation(path: Path, *, count: int = 4, loop: int | None = 0, clear: bool = False) -> Path:
    frames = []
    for number in range(count):
        frame = Image.new("RGBA", (24, 20), (0, 0, 0, 0) if clear else (250, 240, 230, 255))
        frame.paste((200, 30 * number, 10, 255), (3 * number, 2, 3 * number + 9, 14))
        frames.append(frame if clear else frame.convert("RGB"))
    options = {} if loop is None else {"loop": loop}
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    disposal = {"disposal": 2} if clear and path.suffix == ".gif" else {}
    durations = [40 + 10 * number for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, **options, **lossless, **disposal)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize(
    ("suffix", "loop"), [(".gif", 0), (".gif", None), (".gif", 3), (".webp", 0), (".webp", 2), (".png", 0), (".png", 5)]
)
def test_an_animation_keeps_frames_durations_and_loop(
    identity_file: Path, tmp_path: Path, suffix: str, loop: int | None, clear: bool
) -> None:
    source = animation(tmp_path / f"a{suffix}", loop=loop, clear=clear)
    assert infer(identity_file, source, "--frames", "--scale", "1", "-o", tmp_path / f"b{suffix}") == 0
    given, found = read_picture(source, ALL), read_picture(tmp_path / f"b{suffix}", ALL)
    assert (found.frames, found.rest.durations_ms, found.rest.loop) == (4, (40, 50, 60, 70), given.rest.loop)
    for before, after in zip(given.all_frames, found.all_frames, strict=True):
        assert before.shape == after.shape
        seen = before[..., 3:] > 0 if before.shape[2] == 4 else 1
        assert np.abs((before[..., :3].astype(int) - after[..., :3]) * seen).max() <= 1  # an identity network
        assert np.array_equal(before[..., 3:], after[..., 3:])


@pytest.mark.parametrize(("given", "made"), [(".gif", ".webp"), (".webp", ".gif"), (".gif", ".png")])
def test_an_animation_may_change_its_format(identity_file: Path, tmp_path: Path, given: str, made: str) -> None:
    source = animation(tmp_path / f"a{given}", loop=None if given == ".gif" else 1)
    assert infer(identity_file, source, "--frames", "-o", tmp_path / f"b{made}") == 0
    found = read_picture(tmp_path / f"b{made}", ALL)
    assert (found.frames, found.rest.loop) == (4, 1)
    assert found.pixels.shape[:2] == (40, 48)


@pytest.mark.parametrize("frames", [False, True])
def test_pages_of_a_tiff_stay_pages_and_keep_their_sizes(identity_file: Path, tmp_path: Path, frames: bool) -> None:
    pages = [Image.effect_noise((20 + n, 12), 60).convert(mode) for n, mode in enumerate(("L", "RGB", "RGBA"))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert infer(identity_file, tmp_path / "a.tif", *(["--frames"] if frames else [])) == 0
    found = read_picture(tmp_path / "a_x2.tif", ALL)
    shapes = [(24, 40, 1), (24, 42, 3), (24, 44, 4)]
    assert [pixels.shape for pixels in found.all_frames] == (shapes if frames else shapes[:1])


def shown(tmp_path: Path, kind: str, frames: list[NDArray[np.uint8]], rest: Frames) -> Picture:
    """Return what is read of frames that were written."""
    path = tmp_path / f"p.{kind}"
    path.write_bytes(b"".join(encode(kind, frames, Picture(frames[0], frames=len(frames), rest=rest))))
    return read_picture(path, ALL)


def plain(*levels: int) -> list[NDArray[np.uint8]]:
    return [np.full((8, 9, 3), level, np.uint8) for level in levels]


def test_what_an_animated_png_says_of_its_colours_goes_along(identity_file: Path, tmp_path: Path) -> None:
    chunks = [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")]
    source = animation(tmp_path / "a.png")
    source.write_bytes(with_chunks(memoryview(source.read_bytes()), chunks))
    assert infer(identity_file, source, "--frames") == 0
    found = read_picture(tmp_path / "a_x2.png", ALL)
    assert (found.frames, list(found.chunks)) == (4, chunks)


@pytest.mark.parametrize("count", [1, 3])
def test_the_default_image_of_an_animated_png_is_no_frame_of_it(tmp_path: Path, count: int) -> None:
    default, *frames = [Image.new("RGB", (8, 9), (level, 1, 2)) for level in range(count + 1)]
    options = {"default_image": True, "duration": [10 * level for level in range(1, count + 1)]}
    default.save(tmp_path / "a.png", save_all=True, append_images=frames, **options)  # type: ignore[arg-type]
    found = read_picture(tmp_path / "a.png", ALL)
    assert found.frames == count
    assert [int(pixels[0, 0, 0]) for pixels in found.all_frames] == list(range(1, count + 1))
    assert found.rest.durations_ms == tuple(range(10, 10 * count + 1, 10))
    assert read_picture(tmp_path / "a.png").pixels[0, 0, 0] == 0


LONG = 80_000_000  # milliseconds, longer than any format holds


@pytest.mark.parametrize(
    ("kind", "levels", "given", "found"),
    [
        ("gif", (1, 2, 2), (600_000, 600_000, 600_000), (600_000, 655_350)),  # equal frames are joined
        ("gif", (1, 2), (LONG, 50), (655_350, 50)),
        ("webp", (1, 2), (LONG, 50), (2**24 - 1, 50)),
        ("webp", tuple(range(130)), (LONG,) * 130, (2**24 - 1,) * 128 + (127, 0)),  # the clock is at its end
        ("png", (1, 2), (LONG, 50), (65_535_000, 50)),
        ("png", (1, 2, 3), (70_001, 655_351, 6_553_501), (70_000, 655_350, 6_553_500)),  # a fraction of 16 bits
    ],
)
def test_durations_that_a_format_cannot_hold_are_the_longest_it_holds(
    tmp_path: Path, kind: str, levels: tuple[int, ...], given: tuple[int, ...], found: tuple[int, ...]
) -> None:
    assert shown(tmp_path, kind, plain(*levels), Frames((), given, 0)).rest.durations_ms == found


@pytest.mark.parametrize(("kind", "most"), [("gif", 65_536), ("webp", 65_535), ("png", 100_000)])
def test_loops_that_a_format_cannot_hold_are_the_most_it_holds(tmp_path: Path, kind: str, most: int) -> None:
    assert shown(tmp_path, kind, plain(1, 2), Frames((), (50, 50), 100_000)).rest.loop == most


def test_clear_pixels_of_a_gif_stay_clear_behind_an_opaque_frame(tmp_path: Path) -> None:
    opaque, cut_out = (np.full((8, 9, 4), level, np.uint8) for level in (255, 100))
    cut_out[2:5, 3:6, 3] = 0
    cut_out[..., 3][cut_out[..., 3] > 0] = 255
    found = shown(tmp_path, "gif", [opaque, cut_out], Frames((), (50, 50), 0))
    assert (found.pixels[..., 3] == 255).all()
    assert np.array_equal(found.rest.pixels[0][..., 3], cut_out[..., 3])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_pages_behind_one_of_8_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    pages = [np.full((5, 6), 7, np.uint8), np.full((5, 6), 1, dtype)]
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "p.tif", save_all=True, append_images=images[1:])
    with pytest.raises(InputError, match=r"p\.tif: pages of 16 bits or floats behind one of 8 bits; leave --frames out"):
        read_picture(tmp_path / "p.tif", ALL)
    assert read_picture(tmp_path / "p.tif").pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("suffix", "kind", "able"),
    [(".gif", "jpeg", "png"), (".gif", "tiff", "png"), (".tif", "webp", "tiff"), (".webp", "bmp", "png")],
)
def test_frames_that_a_format_cannot_hold_are_refused_in_one_line(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, kind: str, able: str
) -> None:
    source = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        pages = [Image.effect_noise((20, 12), 60) for _ in range(4)]
        pages[0].save(source, save_all=True, append_images=pages[1:])
    else:
        animation(source)
    assert infer(identity_file, source, "--frames", "--format", kind) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"which {kind} cannot hold; use --format {able}" in line and "4 " in line
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_all_frames_together_count_against_the_limit(tmp_path: Path, suffix: str) -> None:
    source = animation(tmp_path / f"a{suffix}")
    assert len(read_picture(source, Reading(frames=True, max_pixels=4 * 480)).all_frames) == 4
    with pytest.raises(InputError, match=r"declares 1920 pixels in its frames, the limit is 1919"):
        read_picture(source, Reading(frames=True, max_pixels=4 * 480 - 1))
    assert read_picture(source, Reading(max_pixels=480)).frames == 4


def test_frames_are_enlarged_each_for_itself(random_file: Path) -> None:
    engine: Engine = load(random_file, threads=1)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (30 + 40 * n, 50, 3), np.uint8) for n in range(3)]
    work = FramesUpscaling(engine.card, frames, 2)
    parts = [work.put(band, engine.run(band.tiles)) for band in work.bands()]
    assert parts == sorted(parts) and parts[-1] == 1.0
    for frame, result in zip(frames, work.results, strict=True):
        assert np.array_equal(result, upscale(engine, frame, 2))
    assert work.nbytes == sum(frame.nbytes * 5 for frame in frames)

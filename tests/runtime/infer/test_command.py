"""``sr-infer`` from its arguments to the files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.infer.command import main
from sr_deploy.runtime.pictures.read import read_picture, read_pixels
from sr_deploy.runtime.upscaling.upscaling import upscale
from tests.conftest import Outside, data_folder
from tests.helpers.cli import error_lines, infer
from tests.runtime import tiny_onnx as tiny


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each file of the collection of odd pictures, where it is."""
    for name, folder in (("broken", "bad"), ("unusual", "valid")):
        if name in metafunc.fixturenames:
            files = sorted(data_folder(metafunc.config).glob(f"odd/{folder}/*"))
            chosen = [path for path in files if folder == "bad" or is_small(path)]
            metafunc.parametrize(name, chosen, ids=lambda path: path.name)


def is_small(path: Path) -> bool:
    with Image.open(path) as image:
        return image.width <= 900 and image.height <= 600


def picture(path: Path, size: tuple[int, int] = (20, 12), mode: str = "RGB") -> Path:
    Image.effect_noise(size, 60).convert(mode).save(path)
    return path


def test_result_lies_beside_the_input(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png")) == 0
    with Image.open(tmp_path / "a_x2.png") as found:
        assert (found.size, found.mode, found.format) == ((40, 24), "RGB", "PNG")
    assert capsys.readouterr().out.strip() == str(tmp_path / "a_x2.png")


def test_result_is_what_upscale_returns(random_file: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", (70, 60))
    assert infer(random_file, source, "--scale", "3") == 0
    expected = upscale(load(random_file, threads=1), read_pixels(source), 3)
    assert np.array_equal(read_pixels(tmp_path / "a_x3.png"), expected)


@pytest.mark.parametrize("crf", ["nan", "inf", "-inf", "-1", "63.5"])
def test_a_quality_of_videos_that_is_none_is_told_of_pictures_too(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], crf: str
) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), f"--crf={crf}") == 2
    assert capsys.readouterr().err.startswith(f"sr-infer: --crf {crf}: outside 0 to 63; ")
    assert not (tmp_path / "a_x2.png").exists()


def test_results_go_into_a_new_folder(identity_file: Path, tmp_path: Path) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg"), "-o", tmp_path / "new" / "out") == 0
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == ["a_x2.png", "b_x2.jpg"]


def test_one_result_goes_into_a_named_file(identity_file: Path, tmp_path: Path) -> None:
    assert infer(identity_file, picture(tmp_path / "a.jpg"), "-o", tmp_path / "named.PNG", "--scale", "1") == 0
    assert (tmp_path / "named.PNG").is_file()


def test_one_file_for_two_pictures_is_refused(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), "-o", tmp_path / "c.png") == 2
    assert "one file for 2 pictures" in error_lines(capsys)[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-o", "out.heic"], r".heic is no format that is written; end its name in .png, .jpg, .webp, .tif, .bmp, .gif, .avif"),
        (["-o", "out.jpg", "--format", "png"], "its suffix says jpeg, --format png; leave one of them out"),
        (["-o", "out.png", "--quality", "80"], "--quality 80: png is stored without loss"),
        (["--format", "tiff", "--quality", "80"], "--quality 80: tiff is stored without loss"),
        (["--quality", "101"], "--quality 101: outside 1 to 100"),
    ],
)
def test_formats_that_contradict_are_refused(
    identity_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert infer(identity_file, picture(tmp_path / "a.png"), *options) == 2
    (line,) = error_lines(capsys)
    assert reason in line and [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_existing_folder_with_a_dot_is_a_folder(identity_file: Path, tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    assert infer(identity_file, picture(tmp_path / "a.png"), "-o", tmp_path / "v1.0") == 0
    assert (tmp_path / "v1.0" / "a_x2.png").is_file()


def test_an_existing_file_is_not_replaced(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a_x2.png").write_text("mine")
    assert infer(identity_file, picture(tmp_path / "a.png")) == 2
    assert "exists already; add --overwrite" in error_lines(capsys)[0]
    assert (tmp_path / "a_x2.png").read_text() == "mine"


def test_an_existing_file_is_replaced_when_asked(identity_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a_x2.png").write_text("old")
    assert infer(identity_file, picture(tmp_path / "a.png"), "--overwrite") == 0
    assert read_pixels(tmp_path / "a_x2.png").shape == (24, 40, 3)


@pytest.mark.parametrize("name", ["a.png", "link.png"])
def test_the_input_is_never_replaced(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    before = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "link.png").symlink_to("a.png")
    assert infer(identity_file, tmp_path / "a.png", "-o", tmp_path / name, "--overwrite") == 2
    assert "is the input itself" in error_lines(capsys)[0]
    assert (tmp_path / "a.png").read_bytes() == before


def test_no_other_input_is_replaced_either(identity_file: Path, tmp_path: Path) -> None:
    before = picture(tmp_path / "a_x2.png").read_bytes()
    assert infer(identity_file, picture(tmp_path / "a.png"), tmp_path / "a_x2.png", "--overwrite") == 2
    assert (tmp_path / "a_x2.png").read_bytes() == before


def test_a_result_that_would_be_an_input_is_refused_before_either_exists(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), tmp_path / "a_x2.png") == 2
    assert "a_x2.png: is the input" in error_lines(capsys)[0] and not (tmp_path / "a_x2.png").exists()


def test_odd_names_hold_no_other_picture_up(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    odd = ["folder", "loop/x.png", "loop", "pipe.png", f"{'n' * 300}.png", "none.png"]
    names = [tmp_path / name for name in odd]
    assert infer(identity_file, *names, picture(tmp_path / "a.png"), "-o", tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x2.png"]
    lines = error_lines(capsys)
    assert all(name in line for name, line in zip(odd, lines, strict=False))
    assert "holds no picture" in lines[0] and "not a regular file" in lines[3] and "6 of 7 pictures failed" in lines[6]
    assert len(lines) == 7 + len({line.split(": ", 2)[1] for line in lines[7:]})


def test_an_output_folder_in_a_loop_is_one_line(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert infer(identity_file, picture(tmp_path / "a.png"), "-o", tmp_path / "loop") == 2
    assert infer(identity_file, tmp_path / "a.png", "-o", "") == 2
    lines = error_lines(capsys)
    assert len(lines) == 2 and "-o '': an empty name" in lines[1]


def test_the_engine_is_never_replaced(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Path(shutil.copy(identity_file, tmp_path / "engine.onnx"))
    (tmp_path / "link.png").symlink_to(engine)
    before = engine.read_bytes()
    assert infer(engine, picture(tmp_path / "a.png"), "-o", tmp_path / "link.png", "--overwrite") == 2
    assert "is the input" in error_lines(capsys)[0] and engine.read_bytes() == before


def test_an_engine_that_returns_no_numbers_writes_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tiny.zero_weights((2, 1))
    weights[0][0, 0, 1, 1] = np.nan
    engine = tiny.write(tmp_path / "nan_fp32.onnx", weights, (1, 1, 48, 48))
    assert infer(engine, picture(tmp_path / "a.png"), "--scale", "1", "-o", tmp_path / "out.png") == 3
    (line,) = error_lines(capsys)
    assert "a.png: the engine returns values that are no finite numbers" in line and not (tmp_path / "out.png").exists()


def test_much_text_beside_the_pixels_is_no_reason_to_refuse_them(identity_file: Path, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("history", "edited " * 400_000, zip=True)
    Image.effect_noise((20, 12), 60).save(tmp_path / "a.png", pnginfo=info)
    assert infer(identity_file, tmp_path / "a.png") == 0


def test_two_inputs_with_one_output_are_refused_before_work(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg"), "--format", "png") == 2
    assert "would be written for" in error_lines(capsys)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png"]


def test_two_spellings_of_one_output_are_refused_before_work(identity_file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    picture(tmp_path / "a.png")
    other = picture(tmp_path / "a.jpg").parent / "sub" / ".." / "a.jpg"
    assert infer(identity_file, tmp_path / "a.png", other, "--overwrite", "--format", "png") == 2
    assert not (tmp_path / "a_x2.png").exists()


def test_a_bad_picture_is_named_and_the_others_are_done(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(picture(tmp_path / "a.png").read_bytes()[:100])
    assert infer(identity_file, tmp_path / "bad.png", tmp_path / "a.png", tmp_path / "none.png") == 2
    lines = error_lines(capsys)
    assert str(tmp_path / "bad.png") in lines[0] and str(tmp_path / "none.png") in lines[1]
    assert lines[2] == "sr-infer: 2 of 3 pictures failed"
    assert (tmp_path / "a_x2.png").is_file() and not (tmp_path / "bad_x2.png").exists()


def test_a_scale_that_is_not_served_is_refused(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), "--scale", "7") == 2
    assert "serves scales 1, 2, 3, 4, not 7" in error_lines(capsys)[0]


def test_a_missing_engine_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(tmp_path / "none.onnx", picture(tmp_path / "a.png")) == 2
    assert error_lines(capsys) == [f"sr-infer: {tmp_path / 'none.onnx'}: no such file; make it with sr-export"]


def test_a_damaged_engine_is_one_line(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_bytes(identity_file.read_bytes()[:-9])
    assert infer(tmp_path / "m.onnx", picture(tmp_path / "a.png")) == 2
    assert len(error_lines(capsys)) == 1


@pytest.mark.parametrize("arguments", [[], ["--scale", "0"], ["--scale", "two"], ["--threads", "0"], ["--provider", "tpu"]])
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--engine", "m.onnx", *(["a.png"] if arguments else []), *arguments])
    assert caught.value.code == 2
    assert len(error_lines(capsys)) == 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (300, 1), (1, 300), (129, 140)])
def test_mode_and_size_are_kept(identity_file: Path, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png", size, mode)) == 0
    with Image.open(tmp_path / "a_x2.png") as found:
        assert (found.size, found.mode) == ((2 * size[0], 2 * size[1]), mode)


def test_a_picture_of_the_repository_goes_through(random_file: Path, pictures: Path, tmp_path: Path) -> None:
    assert infer(random_file, *sorted(pictures.glob("*.*g")), "-o", tmp_path) == 0
    with Image.open(tmp_path / "grass_x2.png") as grey, Image.open(tmp_path / "china_x2.jpg") as colour:
        assert (grey.size, grey.mode) == ((1024, 1024), "L")
        assert (colour.size, colour.mode) == ((1280, 854), "RGB")


def test_a_broken_file_is_one_line_and_exit_2(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    assert infer(identity_file, broken, "-o", tmp_path / "out") == 2
    lines = error_lines(capsys)
    assert len(lines) == 1 and broken.name in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["bmp_2147483647x6.bmp", "bmp_3000000x2000000.bmp"])
def test_a_picture_that_declares_too_much_is_refused(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], outside: Outside, name: str
) -> None:
    assert infer(identity_file, outside("odd/huge") / name, "-o", tmp_path) == 2
    assert "the limit is 500000000" in error_lines(capsys)[0]


def expected_channels(image: Image.Image) -> int:
    transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
    return (1 if image.mode in ("1", "L", "LA", "I;16", "F") else 3) + transparent


def expected_dtype(path: Path) -> type:
    return np.float32 if "float32" in path.name else np.uint16 if "16_" in path.name else np.uint8


def test_an_unusual_picture_keeps_size_depth_transparency_and_format(identity_file: Path, tmp_path: Path, unusual: Path) -> None:
    path = unusual
    copied = Path(shutil.copy(path, tmp_path / path.name))
    assert infer(identity_file, copied, "-o", tmp_path / "out", "--scale", "2") == 0
    (made,) = (tmp_path / "out").iterdir()
    found, original = read_picture(made), read_picture(path)
    with Image.open(path) as source:
        h, w = original.pixels.shape[:2]
        assert found.pixels.shape == (2 * h, 2 * w, expected_channels(source))
        assert sorted((h, w)) == sorted(source.size)
        assert found.pixels.dtype == original.pixels.dtype == expected_dtype(path)
        assert found.format == ("png" if source.format == "GIF" else str(source.format).lower())
    assert found.icc_profile == original.icc_profile
    assert made.suffix == (".png" if path.suffix == ".gif" else path.suffix)
    # shrunk again it is the picture: upright, with the same colours
    small = np.asarray(found.pixels, np.float64).reshape(h, 2, w, 2, -1).mean(axis=(1, 3))
    seen = original.pixels[..., -1:] > 0 if found.pixels.shape[2] in (2, 4) else 1
    span = max(float(np.ptp(original.pixels)), 1.0)
    assert (np.abs(small - original.pixels) * seen).mean() < 0.12 * span  # bicubic there and back of one-pixel lines; JPEG


def test_a_trailing_slash_is_a_folder(identity_file: Path, tmp_path: Path) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), "-o", f"{tmp_path}/out.v1/") == 0
    assert (tmp_path / "out.v1" / "a_x2.png").is_file()


def test_a_file_where_a_folder_is_needed_is_refused(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").write_text("kept")
    assert infer(identity_file, picture(tmp_path / "a.png"), "-o", tmp_path / "plain") == 2
    assert "plain: a file that is no picture" in error_lines(capsys)[0]
    assert (tmp_path / "plain").read_text() == "kept"


@pytest.mark.parametrize(("space", "mode", "kept"), [(b"RGB ", "RGB", True), (b"CMYK", "RGB", False), (b"GRAY", "L", True)])
def test_a_colour_profile_goes_along_where_it_fits(
    identity_file: Path, tmp_path: Path, space: bytes, mode: str, kept: bool
) -> None:
    profile = bytes(16) + space + bytes(108)
    Image.effect_noise((20, 12), 60).convert(mode).save(tmp_path / "a.png", icc_profile=profile)
    assert infer(identity_file, tmp_path / "a.png") == 0
    with Image.open(tmp_path / "a_x2.png") as found:
        assert found.info.get("icc_profile") == (profile if kept else None)


def test_exif_that_a_tiff_leaves_out_is_told_once(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[271] = "Maker"
    for name in ("a.jpg", "b.jpg"):
        Image.effect_noise((20, 12), 60).save(tmp_path / name, exif=exif)
    Image.effect_noise((20, 12), 60).save(tmp_path / "c.tif", dpi=(300, 300))  # a resolution is kept
    arguments = ("--format", "tiff", "-o", tmp_path / "out")
    assert infer(identity_file, tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.tif", *arguments) == 0
    assert error_lines(capsys) == [f"sr-infer: not in the results: EXIF of {tmp_path / 'a.jpg'}, {tmp_path / 'b.jpg'}"]
    assert infer(identity_file, tmp_path / "a.jpg", *arguments, "--overwrite") == 0
    assert error_lines(capsys) == ["sr-infer: not in the result: EXIF"]
    with Image.open(tmp_path / "out" / "c_x2.tif") as found:
        assert found.info["dpi"] == (300, 300)
    assert infer(identity_file, tmp_path / "a.jpg", "-o", tmp_path / "out") == 0
    assert error_lines(capsys) == []


def test_frames_that_are_left_out_are_told(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Image.effect_noise((20, 12), 60 + n) for n in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert infer(identity_file, tmp_path / "a.tif") == 0
    assert error_lines(capsys) == [
        f"sr-infer: warning: {tmp_path / 'a.tif'}: has 3 frames, the first one is enlarged; --frames takes all"
    ]


def test_further_pictures_of_a_jpeg_are_told(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = Image.effect_noise((20, 12), 60)
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image], quality=95)
    for options in ((), ("--frames", "--overwrite")):
        assert infer(identity_file, tmp_path / "a.jpg", *options) == 0
        (line,) = error_lines(capsys)
        assert "a.jpg: holds 1 more picture, the first one is enlarged; exiftool -b -MPImage2 takes the second out" in line


def test_what_a_result_has_not_is_one_line_and_in_the_log(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a dune")
    for name in ("a.png", "b.png"):
        Image.effect_noise((20, 12), 60).save(tmp_path / name, pnginfo=info)
    assert infer(identity_file, tmp_path / "a.png") == 0 and error_lines(capsys) == []
    with Image.open(tmp_path / "a_x2.png") as found:
        assert found.info["prompt"] == "a dune"
    assert infer(identity_file, tmp_path / "a.png", "--format", "webp") == 0
    assert error_lines(capsys) == ["sr-infer: not in the result: text (prompt)"]
    options = ("-o", tmp_path / "out", "--format", "webp", "--json-log", tmp_path / "log")
    assert infer(identity_file, tmp_path / "a.png", tmp_path / "b.png", *options) == 0
    assert error_lines(capsys) == [f"sr-infer: not in the results: text (prompt) of {tmp_path}/a.png, {tmp_path}/b.png"]
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["dropped"] for entry in entries] == [["text (prompt)"]] * 2


def test_avif_is_read_and_written(identity_file: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.avif")
    picture(tmp_path / "b.png")
    for arguments in ((tmp_path / "a.avif",), (tmp_path / "b.png", "--format", "avif"), (tmp_path / "b.png",)):
        assert infer(identity_file, *arguments) == 0
    for name in ("a", "b"):
        with Image.open(tmp_path / f"{name}_x2.avif") as found:
            assert (found.size, found.mode, found.format) == ((40, 24), "RGB", "AVIF")
    plain, coded = (read_pixels(tmp_path / name).astype(int) for name in ("b_x2.png", "b_x2.avif"))
    assert np.abs(coded - plain).mean() < 4  # noise at a quality of 95


@pytest.mark.parametrize("suffix", ["ppm", "jp2"])
def test_a_format_whose_deep_samples_would_be_cut_is_refused(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    try:
        picture(tmp_path / f"a.{suffix}")
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    assert infer(identity_file, tmp_path / f"a.{suffix}") == 2
    kind = {"ppm": "PNM", "jp2": "JPEG 2000"}[suffix]
    assert f"is {kind}, which is not read; write it as PNG, JPEG or TIFF with magick" in error_lines(capsys)[0]


@pytest.mark.parametrize(("scale", "lines"), [("2", 0), ("3", 1)])
def test_another_scale_than_the_calibrated_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str, lines: int
) -> None:
    engine = tiny.write(tmp_path / "m_int8.onnx", tiny.zero_weights((2, 1)), (1, 1, 32, 32), calibrated_scale=2)
    assert infer(engine, picture(tmp_path / "a.png"), "--scale", scale) == 0
    found = error_lines(capsys)
    assert len(found) == lines and all("was calibrated for x2, not for x3" in line for line in found)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_truncated_picture_is_taken_as_far_as_it_goes_when_asked(identity_file: Path, tmp_path: Path, suffix: str) -> None:
    content = picture(tmp_path / f"a.{suffix}", (60, 50)).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) * 2 // 3])
    assert infer(identity_file, tmp_path / f"a.{suffix}") == 2
    assert infer(identity_file, tmp_path / f"a.{suffix}", "--allow-truncated") == 0
    assert read_pixels(tmp_path / f"a_x2.{suffix}").shape == (100, 120, 3)


def test_the_limit_of_pixels_is_an_option(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), "--max-pixels", "239") == 2
    assert "a.png: declares 20x12 pixels, the limit is 239; cut it into parts" in error_lines(capsys)[0]
    assert infer(identity_file, tmp_path / "a.png", "--max-pixels", "240") == 0


def test_a_result_in_another_format_has_its_name(identity_file: Path, tmp_path: Path) -> None:
    assert infer(identity_file, picture(tmp_path / "a.png"), "--format", "webp", "--quality", "80") == 0
    with Image.open(tmp_path / "a_x2.webp") as found:
        assert (found.format, found.size) == ("WEBP", (40, 24))


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--overwite", "did you mean --overwrite?"),
        ("--outscale=4", "--outscale: the factor is --scale;"),
        ("--tile", "--tile: an engine has its tiles: pictures of any size go through;"),
        ("-s4", "-s: the factor is --scale;"),
        ("-g", "-g: where it runs is --provider cuda or tensorrt;"),
        ("--zzz", "unrecognized arguments: --zzz; see sr-infer --help"),
    ],
)
def test_an_option_of_another_program_gets_ours(option: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["a.png", option])
    (line,) = error_lines(capsys)
    assert hint in line and line.endswith("see sr-infer --help")


def test_a_url_is_called_one(identity_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(identity_file, "https://example.org/a.jpg") == 2
    assert error_lines(capsys) == ["sr-infer: https://example.org/a.jpg: a URL, files are read; download it first"]


def test_a_second_run_is_told_how_to_go_on(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = picture(tmp_path / "a.png")
    assert [infer(identity_file, source) for _ in range(2)] == [0, 2]
    assert "add --overwrite to replace it or --skip-existing to keep it, or choose another" in error_lines(capsys)[0]

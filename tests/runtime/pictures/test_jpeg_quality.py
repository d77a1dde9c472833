"""The quality of a JPEG is read off its tables, and a coarse one is told of where there is an engine for it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy.runtime.infer import run as infer
from sr_deploy.runtime.infer.command import main
from sr_deploy.runtime.pictures.jpeg_quality import jpeg_quality
from sr_deploy.runtime.pictures.read import read_picture


def jpeg(quality: int, **options: object) -> Image.Image:
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, "JPEG", quality=quality, **options)
    return Image.open(stream)


@pytest.mark.parametrize("quality", [20, 49, 50, 51, 75, 89, 90, 95])
def test_the_quality_is_what_it_was_saved_with(quality: int) -> None:
    assert jpeg_quality(jpeg(quality)) == quality


def test_tables_of_another_program_have_the_quality_that_is_as_coarse() -> None:
    assert jpeg_quality(jpeg(50, qtables=[[14] * 64, [20] * 64])) == 88  # 896 of the standard's 3688: 24 %


def test_what_is_no_jpeg_has_none(pictures: Path) -> None:
    with Image.open(pictures / "coffee.png") as image:
        assert jpeg_quality(image) is None
    assert read_picture(pictures / "coffee.png").jpeg_quality is None


@pytest.mark.parametrize(
    ("qualities", "offered", "line"),
    [
        ([50], True, "the JPEG is of a quality below 90; try --engine photo"),
        ([50, 95, 89], True, "2 JPEGs are of a quality below 90; try --engine photo"),
        ([50, 95], True, "1 JPEG is of a quality below 90; try --engine photo"),
        ([90], True, None),
        ([50], False, None),
    ],
)
def test_one_line_tells_of_coarse_jpegs(
    qualities: list[int],
    offered: bool,
    line: str | None,
    engine_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(infer, "has_photo_engine", lambda path, scale: offered)
    names = []
    for number, quality in enumerate(qualities):
        names.append(str(tmp_path / f"{number}.jpg"))
        Image.linear_gradient("L").resize((40, 40)).save(names[-1], quality=quality)
    assert main([*names, "--engine", str(engine_file), "-o", str(tmp_path / "out"), "--threads", "1"]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == (0 if line is None else 1) and all(line in error for error in errors if line)


def test_a_jpeg_by_rows_has_its_quality_too(
    engine_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyvips")
    monkeypatch.setattr(infer, "has_photo_engine", lambda path, scale: True)
    path = tmp_path / "wide.jpg"
    Image.linear_gradient("L").resize((4000, 1500)).save(path, quality=40)
    assert main([str(path), "--engine", str(engine_file), "--memory", "180M", "--threads", "1"]) == 0
    assert "try --engine photo" in capsys.readouterr().err

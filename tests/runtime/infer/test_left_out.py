"""What folders hold and is not enlarged is told: kinds that are not read, and pictures of another suffix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import open_picture
from sr_deploy.runtime.infer import left_out
from sr_deploy.runtime.infer.left_out import LeftOut
from tests.helpers.cli import error_lines, infer

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def photo(path: Path, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((20, 12), 60).convert("RGB").save(path, kind, quality=95)
    return path


def collected(folder: Path) -> LeftOut:
    found = LeftOut()
    for path in sorted(folder.iterdir()):
        found.add(path)
    return found


def test_a_folder_names_what_it_leaves_out(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, log = tmp_path / "in", tmp_path / "log"
    for name in ("a.jpg", "b.jfif", "c.jpe", "d.jif", "e.JPG", "scan", "sub/wrong.heic"):
        photo(folder / name)
    for name in ("1.heic", "2.HEIC", "3.heif", "sub/4.hif", "none"):
        (folder / name).write_bytes(HEIC)
    for name in ("p.dng", "q.jxl", "r.pdf", "notes.txt", "a.xmp", "data.bin", ".hidden.heic"):
        (folder / name).write_bytes(b"?")
    assert infer(identity_file, folder, "-o", tmp_path / "out", "--json-log", log) == 0
    (line,) = error_lines(capsys)
    assert line == (
        "sr-infer: left out: 5 HEIC (1.heic, 2.HEIC, 3.heif and 2 more), 2 JPEG (scan, wrong.heic), 1 DNG (p.dng), "
        "1 JPEG XL (q.jxl), 1 PDF (r.pdf); convert HEIC with heif-convert, convert DNG with darktable-cli, "
        "convert JPEG XL with djxl, convert PDF with pdftoppm -png, give JPEG of another suffix by name"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("a_x2.jpg", "b_x2.jfif", "c_x2.jpe", "d_x2.jif", "e_x2.JPG")
    ]
    entries = [json.loads(text) for text in log.read_text().splitlines()]
    left = {entry["input"]: entry["error"] for entry in entries if entry["status"] == "left out"}
    assert len(left) == 10 and len(entries) == 15
    assert left[f"{folder}/p.dng"] == f"{folder}/p.dng: DNG is not read; convert it with darktable-cli"
    assert left[f"{folder}/scan"] == f"{folder}/scan: JPEG of another suffix; give it by name"


def test_what_was_named_that_way_is_enlarged(identity_file: Path, tmp_path: Path) -> None:
    assert infer(identity_file, photo(tmp_path / "scan"), photo(tmp_path / "b.heic"), "-o", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b_x2.jpg", "scan_x2.jpg"]


def test_a_pattern_names_what_it_leaves_out_and_one_with_a_suffix_does_not(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.dng").write_bytes(b"II*\0")
    assert infer(identity_file, f"{tmp_path}/*.jpg", "-o", tmp_path / "out") == 0 and error_lines(capsys) == []
    assert infer(identity_file, f"{tmp_path}/*", "-o", tmp_path / "out", "--skip-existing") == 0
    assert any("left out: 1 DNG (a.dng); convert DNG with darktable-cli" in line for line in error_lines(capsys))


def test_kinds_that_are_told_are_bounded_and_texts_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("heic", "dng", "jxl", "psd", "pdf", "svg", "eps", "ico", "tga", "exr"):
        (tmp_path / f"a.{suffix}").write_bytes(b"?")
    assert ", 2 of 2 other kinds; " in collected(tmp_path).line()
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.dat").write_bytes(b"?")
        (folder / f"{number}.txt").write_bytes(HEIC)
    (folder / "9.dat").write_bytes(HEIC)
    assert "1 HEIC (9.dat)" in collected(folder).line()
    monkeypatch.setattr(left_out, "MOST_MISSES", 5)
    assert collected(folder).line() == ""


def test_pipes_and_dead_links_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dead.heic").symlink_to("nowhere")
    assert collected(tmp_path).line().startswith("left out: 1 HEIC (dead.heic)")


@pytest.mark.parametrize(("name", "content"), [("a.heic", HEIC), ("a.jpg", HEIC), ("a.dng", b"II*\0"), ("a.jxl", b"\xff\x0a")])
def test_a_named_picture_that_is_not_read_is_one_line(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert infer(identity_file, tmp_path / name) == 2
    (line,) = error_lines(capsys)
    assert "which is not read; write it as PNG, JPEG or TIFF with " in line


def test_a_raw_files_preview_is_not_enlarged_for_it(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, tags in (("dng.tif", {50706: b"\1\4\0\0"}), ("nef.tif", {254: 1, 330: 8})):
        Image.new("RGB", (16, 12)).save(tmp_path / name, tiffinfo=tags)
        assert infer(identity_file, tmp_path / name) == 2
        assert "which is not read; " in error_lines(capsys)[0]
        with pytest.raises(InputError, match="which is not read; "):
            open_picture(tmp_path / name)

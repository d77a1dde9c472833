"""Engines and pictures that nobody meant well: one line, the right exit code, nothing half done."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.card import seal
from tests.helpers.cli import infer
from tests.runtime import tiny_onnx as tiny
from tests.runtime.infer.test_command import picture

WEIGHTS = tiny.zero_weights((2, 1))
SHAPE = (1, 1, 48, 48)


def sealed(content: bytes) -> bytes:
    return seal(content, source="tests")


def with_external(location: str) -> bytes:
    return sealed(tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE, external=location), tiny.card_of(WEIGHTS, SHAPE).to_json()))


def of_another_card(path: Path, **changes: object) -> None:
    card = tiny.card_of(WEIGHTS, SHAPE).with_changes(**changes)
    path.write_bytes(sealed(tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE), card.to_json())))


def as_it_is(path: Path) -> bytes:
    return tiny.write(path, WEIGHTS, SHAPE).read_bytes()


ENGINES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "holds no model card"),
    "truncated": (lambda path: path.write_bytes(as_it_is(path)[:-20]), "truncated|changed|card"),
    "truncated early": (lambda path: path.write_bytes(as_it_is(path)[:40]), "truncated"),
    "text": (lambda path: path.write_text("<html>Not found</html>"), "not an ONNX model"),
    "a picture": (lambda path: Image.new("L", (9, 9)).save(path, "PNG"), "not an ONNX model"),
    "of another tool": (lambda path: path.write_bytes(tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE), None)), "no model card"),
    "changed": (lambda path: path.write_bytes(as_it_is(path).replace(b"conv1", b"conv3")), "changed after it was made"),
    "outside by a path": (lambda path: path.write_bytes(with_external("/etc/passwd")), "outside its folder"),
    "outside by dots": (lambda path: path.write_bytes(with_external("../secret.bin")), "outside its folder"),
    "data that is missing": (lambda path: path.write_bytes(with_external("weights.bin")), "ONNX Runtime cannot load it"),
    "a folder": (lambda path: path.mkdir(), "no such file"),
    "a pipe": (os.mkfifo, "no such file"),
    "a link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "a card of a large halo": (lambda path: of_another_card(path, halo=30), "not larger than twice the halo"),
    "a card of other shapes": (lambda path: of_another_card(path, input_shape=(1, 1, 64, 64)), "names an output of 48x48"),
    "a card of larger tiles": (
        lambda path: of_another_card(path, input_shape=(1, 1, 64, 64), output_shape=(1, 1, 64, 64)),
        "the graph has",
    ),
    "a card of an enlarging network": (
        lambda path: of_another_card(path, output_shape=(1, 1, 96, 96), upscale="inside"),
        "names scales (2, 3, 4)",
    ),
    "a card of no scale": (lambda path: of_another_card(path, scales=(), default_scale=2), "names scales ()"),
    "a card of a scale of nothing": (lambda path: of_another_card(path, scales=(0,), default_scale=0), "names scales (0,)"),
    "a card of an unknown colour": (lambda path: of_another_card(path, color=["y"]), "is damaged"),
    "a card of a halo in words": (lambda path: of_another_card(path, halo="two"), "names halo two"),
    "a card of half a halo": (lambda path: of_another_card(path, halo=2.5), "names halo 2.5"),
    "a card of a scale with a point": (lambda path: of_another_card(path, default_scale=2.0), "not whole numbers"),
    "a card of three channels": (lambda path: of_another_card(path, color="rgb"), "for a network of colour rgb"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_a_wrong_engine_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    make, said = ENGINES[name]
    make(tmp_path / "m.onnx")
    source = picture(tmp_path / "a.png")
    assert infer(tmp_path / "m.onnx", source, "-o", tmp_path / "out") in (2, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert any(part in line for part in said.split("|"))
    assert not (tmp_path / "out").exists()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in chunks:
        parts += [len(body).to_bytes(4, "big"), kind, body, zlib.crc32(kind + body).to_bytes(4, "big")]
    return b"".join(parts)


def header(width: int, height: int, depth: int = 8, color: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, color, 0, 0, 0])


def bomb(side: int) -> bytes:
    return png(header(side, side), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))


PICTURES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"\x89"),
    "no width": lambda path: path.write_bytes(png(header(0, 5), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))),
    "no height": lambda path: path.write_bytes(png(header(5, 0), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))),
    "a bomb": lambda path: path.write_bytes(bomb(100_000)),
    "a bomb of four gigapixels": lambda path: path.write_bytes(bomb(2**31 - 1)),
    "no pixels": lambda path: path.write_bytes(png(header(5, 5), (b"IEND", b""))),
    "a bad checksum": lambda path: path.write_bytes(png(header(5, 5)).replace(b"\x05", b"\x06", 1)),
    "a text": lambda path: path.write_text("<svg/>"),
    "a BMP of no size": lambda path: path.write_bytes(b"BM" + bytes(52)),
    "a GIF of no size": lambda path: path.write_bytes(b"GIF89a" + bytes(8)),
    "a TIFF that points into itself": lambda path: path.write_bytes(b"II*\0\x08\0\0\0" + b"\x01\0" + bytes(10) + b"\x08\0\0\0"),
    "a WebP of nothing": lambda path: path.write_bytes(b"RIFF\x04\0\0\0WEBP"),
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "an empty folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_wrong_picture_is_one_line_and_the_others_are_done(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    PICTURES[name](tmp_path / "wrong.png")
    good = picture(tmp_path / "good.png")
    assert infer(identity_file, tmp_path / "wrong.png", good, "-o", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "wrong.png" in lines[0] and lines[1] == "sr-infer: 1 of 2 pictures failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_x2.png"]


@pytest.mark.parametrize(
    ("suffix", "format"), [(".jpg", "PNG"), (".png", "JPEG"), (".txt", "BMP"), ("", "TIFF"), (".gif", "WEBP")]
)
def test_a_wrong_suffix_is_no_matter(identity_file: Path, tmp_path: Path, suffix: str, format: str) -> None:
    Image.effect_noise((9, 7), 50).save(tmp_path / "made", format)
    source = (tmp_path / "made").rename(tmp_path / f"a{suffix}")
    assert infer(identity_file, source, "-o", tmp_path / "out") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_picture_without_permission_is_one_line(
    identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    source.chmod(0)
    assert infer(identity_file, source) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be read (Permission denied)" in line


def test_a_picture_that_changes_into_a_result_of_another_is_safe(identity_file: Path, tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    before = second.read_bytes()
    os.link(second, tmp_path / "a_x2.png")
    assert infer(identity_file, first, second, "--overwrite") == 2
    assert second.read_bytes() == before and (tmp_path / "a_x2.png").read_bytes() == before


def test_an_engine_beside_its_data_that_is_a_link_to_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(np.zeros(18, np.float32).tobytes())
    (tmp_path / "in" / "weights.bin").symlink_to("../secret.bin")
    (tmp_path / "in" / "m.onnx").write_bytes(with_external("weights.bin"))
    assert infer(tmp_path / "in" / "m.onnx", picture(tmp_path / "a.png")) == 2
    assert "outside its folder" in capsys.readouterr().err
    shutil.move(tmp_path / "secret.bin", tmp_path / "in" / "kept.bin")
    (tmp_path / "in" / "weights.bin").unlink()
    (tmp_path / "in" / "kept.bin").rename(tmp_path / "in" / "weights.bin")
    assert infer(tmp_path / "in" / "m.onnx", tmp_path / "a.png") == 0

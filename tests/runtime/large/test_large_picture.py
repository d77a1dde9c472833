"""Pictures by rows: the same pixels as in memory, in memory that goes by the width, and nothing left of what fails."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.errors import EngineError, InputError, MachineError
from sr_deploy.pictures import Reading
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.large.estimate import band_bytes, in_memory_bytes
from sr_deploy.runtime.large.facts import facts_of
from sr_deploy.runtime.large.large_picture import LargePicture, Memory, Watch
from sr_deploy.runtime.large.upscale import StreamedUpscaling
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.formats import Writing
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import head_of, read_picture
from sr_deploy.runtime.pictures.rows import rows_of
from sr_deploy.runtime.upscaling.upscaling import known_of, upscale
from tests.runtime import tiny_onnx as tiny
from tests.runtime.large.large_pictures import KINDS, image, samples, with_exif
from tests.runtime.pictures.odd_tiff import Shape, odd_tiff

MIB = 2**20


@pytest.fixture(scope="module")
def engine(random_file: Path) -> Engine:
    pytest.importorskip("pyvips")
    return load(random_file, threads=1)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photograph.jpg"
    image("RGB").save(path, quality=90)
    return path


def by_rows(path: Path, output: Path, engine: Engine, watch: Watch | None = None, **changes: object) -> None:
    """Enlarge a picture twice by rows."""
    work = replace(LargePicture(head_of(path), 2), **changes)  # type: ignore[arg-type]
    work.enlarge(engine, output, watch or Watch())


def no_leftovers(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_a_picture_by_rows_has_the_pixels_of_one_in_memory(tmp_path: Path, engine: Engine, name: str, overlap: bool) -> None:
    kind = "tiff" if "float" in name else "png"
    path, output = tmp_path / name, tmp_path / "out"
    KINDS[name](path)
    picture = read_picture(path)
    expected = upscale(engine, picture.pixels, 2)
    by_rows(path, output, engine, Watch(overlap=overlap), format=kind)
    found = read_picture(output)
    assert found.pixels.dtype == expected.dtype and np.array_equal(found.pixels, expected)
    assert found.icc_profile == picture.icc_profile


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["turned.jpg", "turned.tif"])
def test_orientations_are_applied(tmp_path: Path, engine: Engine, name: str, orientation: int) -> None:
    path, output = tmp_path / name, tmp_path / "out.tif"
    image("RGB").save(path, quality=95, exif=with_exif(orientation))
    by_rows(path, output, engine, format="tiff")
    found = read_picture(output)
    assert np.array_equal(found.pixels, upscale(engine, read_picture(path).pixels, 2))
    no_leftovers(tmp_path, name, "out.tif")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize("name", ["grey.jpg", "rgb.png", "rgb_16.tif"])
def test_every_format_holds_what_it_holds_in_memory(tmp_path: Path, engine: Engine, name: str, kind: str) -> None:
    path = tmp_path / name
    KINDS[name](path)
    picture = read_picture(path)
    result = upscale(engine, picture.pixels, 2)
    (tmp_path / "whole").write_bytes(b"".join(encode(kind, [result], picture, 90)))
    by_rows(path, tmp_path / "rows", engine, format=kind, quality=90)
    expected, found = read_picture(tmp_path / "whole"), read_picture(tmp_path / "rows")
    assert np.array_equal(found.pixels, expected.pixels)
    assert (found.icc_profile, found.tags, found.chunks) == (expected.icc_profile, expected.tags, expected.chunks)


@pytest.mark.parametrize("name", KINDS)
def test_a_header_tells_what_reading_finds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    KINDS[name](path)
    head, picture = head_of(path), read_picture(path)
    assert head.plain and head.shape == picture.pixels.shape
    assert head.nbytes == max(picture.pixels.nbytes, head.stored_bytes)
    told = head.picture
    assert (told.icc_profile, told.frames, told.format) == (picture.icc_profile, picture.frames, picture.format)
    assert (told.tags, told.chunks) == (picture.tags, picture.chunks)


@pytest.mark.parametrize("name", ["grey_alpha.png", "rgba.png", "rgba_16.tif", "grey_12_in_16.tif", "palette_key.png"])
def test_facts_are_those_of_the_picture_in_memory(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyvips")
    path = tmp_path / name
    KINDS[name](path)
    samples_known, hidden = known_of(read_picture(path).pixels)
    with closing(rows_of(head_of(path))) as source:
        facts = facts_of(source)
    assert facts.samples == samples_known
    assert (facts.hidden_mean is None) == (hidden is None)
    assert hidden is None or facts.hidden_mean is None or np.array_equal(facts.hidden_mean, hidden.mean)


def test_the_window_does_not_grow_with_the_height(tmp_path: Path, engine: Engine) -> None:
    most = []
    for copies in (4, 12):
        path = tmp_path / f"{copies}.png"
        pixels = np.concatenate([samples(4)] * copies)
        path.write_bytes(b"".join(encode("png", [pixels], Picture(pixels))))
        source = rows_of(head_of(path))
        work = StreamedUpscaling(engine.card, source, 2, facts_of(rows_of(head_of(path))))
        held = 0
        for band in work.bands():
            held = max(held, work.window.nbytes)
            work.finished(band, engine.run(band.tiles))
        most.append(held // (97 * 4))
        source.close()
    assert most[0] == most[1] < 301


def test_alone_pictures_that_do_not_fit_go_by_rows(photograph: Path, engine: Engine, tmp_path: Path) -> None:
    card, head = engine.card, head_of(photograph)
    need = in_memory_bytes(head, card, 2)
    assert Memory(need).large(head, "jpeg", card, 2) is None
    found = Memory(need - 1, writing=Writing(quality=80)).large(head, "jpeg", card, 2)
    assert found is not None and (found.format, found.quality, found.size) == ("jpeg", 80, (194, 602))


def test_what_is_no_picture_has_no_head(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    for name, reason in (("a.png", "cannot be decoded"), ("missing.png", "no such file")):
        with pytest.raises(InputError, match=reason):
            head_of(tmp_path / name)


def test_what_does_not_fit_by_rows_either_is_refused(photograph: Path, engine: Engine, tmp_path: Path) -> None:
    message = r"take \d+ MB of memory, \d+ MB by rows, 64 MB may be used; allow more with --memory, or cut it into parts"
    with pytest.raises(MachineError, match=message):
        Memory(64 * MIB).large(head_of(photograph), "png", engine.card, 2)


def test_a_format_that_is_not_written_by_rows_is_refused(photograph: Path, engine: Engine, tmp_path: Path) -> None:
    budget = in_memory_bytes(head_of(photograph), engine.card, 2) - 1
    with pytest.raises(InputError, match=r"and webp cannot be written by rows; use --format png, or more --memory"):
        Memory(budget).large(head_of(photograph), "webp", engine.card, 2)


def test_a_format_that_is_not_read_by_rows_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    image("RGB").save(path)
    budget = in_memory_bytes(head_of(path), engine.card, 2) - 1
    message = (
        r"a\.webp: 97x301 pixels, webp of RGB, too large for the memory, cannot be read by rows; write it as RGB or grey PNG"
    )
    with pytest.raises(MachineError, match=message):
        Memory(budget).large(head_of(path), "png", engine.card, 2)


@pytest.mark.parametrize("name", ["rgb_progressive.jpg", "rgb_interlaced.png"])
def test_a_file_that_cannot_be_decoded_by_rows_is_counted_whole(tmp_path: Path, engine: Engine, name: str) -> None:
    path = tmp_path / name
    KINDS[name](path)
    budget = band_bytes(head_of(path), engine.card, 2)
    with pytest.raises(
        MachineError, match=r"of memory by rows, because it is stored progressively or interlaced, and \d+ MB may"
    ):
        by_rows(path, tmp_path / "out.png", engine, budget=budget)
    no_leftovers(tmp_path, name)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", ["rgb.jpg", "rgba.png", "rgb.tif", "tiles.tif"])
def test_a_truncated_picture_is_refused_and_leaves_nothing(tmp_path: Path, engine: Engine, name: str, overlap: bool) -> None:
    path = tmp_path / name
    if name == "tiles.tif":
        path.write_bytes(odd_tiff(samples(3), Shape(2, tile=(16, 16))))
    else:
        image("RGBA" if name == "rgba.png" else "RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"{name}: cannot be decoded \(.*\); the file ends early or is damaged, "):
        by_rows(path, tmp_path / "out.png", engine, Watch(overlap=overlap))
    no_leftovers(tmp_path, name)


def test_a_truncated_picture_is_taken_where_that_is_asked_for(photograph: Path, tmp_path: Path, engine: Engine) -> None:
    content = photograph.read_bytes()
    photograph.write_bytes(content[: len(content) // 2])
    by_rows(photograph, tmp_path / "out.png", engine, allow_truncated=True)
    found = read_picture(tmp_path / "out.png").pixels
    expected = upscale(engine, read_picture(photograph, Reading(allow_truncated=True)).pixels, 2)
    assert found.shape == expected.shape and np.array_equal(found[:200], expected[:200])


def test_an_engine_that_fails_leaves_nothing(photograph: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyvips")
    broken = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 16, 16), offset=float("nan"))
    with pytest.raises(EngineError, match="no finite numbers"):
        by_rows(photograph, tmp_path / "out.png", load(broken, threads=1))
    no_leftovers(tmp_path, "photograph.jpg", "m.onnx")


@pytest.mark.parametrize("overlap", [False, True])
def test_a_run_that_is_stopped_leaves_nothing(photograph: Path, tmp_path: Path, engine: Engine, overlap: bool) -> None:
    watch = Watch(overlap=overlap)
    watch.stop.set()
    with pytest.raises(KeyboardInterrupt):
        by_rows(photograph, tmp_path / "out.png", engine, watch)
    no_leftovers(tmp_path, "photograph.jpg")


def test_the_part_that_is_done_grows_to_one(photograph: Path, tmp_path: Path, engine: Engine) -> None:
    parts: list[float] = []
    by_rows(photograph, tmp_path / "out.png", engine, Watch(parts.append))
    assert len(parts) > 5 and parts == sorted(parts) and parts[-1] == 1.0

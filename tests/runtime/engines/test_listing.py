"""``sr-infer --list`` and engines by name on the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sr_deploy import Upscaler
from sr_deploy.runtime.backends.engine import Engine, Tiles, WrappedEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines import listing as engine_list
from sr_deploy.runtime.engines.shipped import FOLDER, shipped_engines
from sr_deploy.runtime.infer.command import main
from tests.helpers.cli import error_lines


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.effect_noise((24, 20), 60).convert("RGB").save(path)
    return path


@pytest.mark.parametrize(("arguments", "scale"), [([], 2), (["--scale", "4"], 4), (["--engine", "vdsr", "--scale", "3"], 3)])
def test_a_picture_alone_is_enough(picture: Path, arguments: list[str], scale: int) -> None:
    assert main([str(picture), *arguments, "--threads", "1"]) == 0
    with (
        Image.open(picture) as given,
        Image.open(picture.with_name(f"photo_x{scale}.png")) as found,
        Upscaler("vdsr" if "vdsr" in arguments else None, scale=scale, threads=1) as upscaler,
    ):
        assert np.array_equal(np.asarray(found), upscaler.upscale(np.asarray(given)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "vdrs"], "sr-infer: vdrs: no such file, and no shipped engine is called so; name a file "),
        (["--engine", "edsr", "--scale", "3"], "sr-infer: edsr at scale 3: edsr_pruned_int8 serves x2"),
        (["--scale", "7"], "sr-infer: scale 7: plain_l_x2_qat_int8 serves x2"),
        (["--engine", "./vdsr.onnx"], "sr-infer: vdsr.onnx: no such file; make it with sr-export"),
    ],
)
def test_what_names_no_engine_is_one_line_and_exit_2(
    picture: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(picture), *arguments]) == 2
    (line,) = error_lines(capsys)
    assert line.startswith(message)


def test_a_file_of_that_name_is_taken_first(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("edsr").write_text("mine")
    assert main(["photo.png", "--engine", "edsr"]) == 2
    assert error_lines(capsys) == [
        "sr-infer: edsr: not an engine (no suffix); name an .onnx made by sr-export or a .plan by sr-build"
    ]


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are neither loaded nor timed, which takes half a minute for all of them: each makes 1.5 megapixels a second."""
    monkeypatch.setattr(engine_list, "load", lambda path, **options: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(engine_list, "speed_of", lambda engine: engine_list.Speed(1.5, 3, "CPUExecutionProvider"))


@pytest.mark.slow
def test_the_list_shows_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--times", "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines if "_int8 " in line}
    assert rows.keys() == {(engine.name, f"x{scale}") for engine in shipped_engines() for scale in engine.scales}
    for engine in shipped_engines():
        for scale in engine.scales:
            quality, reference, size, speed, *_ = rows[engine.name, f"x{scale}"]
            assert (quality, reference) == (f"{engine.psnr_db[scale]:.3f}", f"{engine.fp32_psnr_db[scale]:.3f}")
            assert size == f"{(FOLDER / f'{engine.name}.onnx').stat().st_size / 1000:.0f}" and float(speed) > 0.0
    defaults = [key[1] for key, cells in rows.items() if cells[-1] == "default"]
    assert sorted(defaults) == sorted({f"x{scale}" for engine in shipped_engines() for scale in engine.scales})
    assert "measured here just now (CPUExecutionProvider" in lines[-1]


@pytest.mark.usefixtures("untimed")
def test_the_list_as_json_holds_the_same_and_how_it_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--times", "--json", "--threads", "2"]) == 0
    found = json.loads(capsys.readouterr().out)["engines"]
    assert [entry["name"] for entry in found] == [engine.name for engine in shipped_engines()]
    for entry, engine in zip(found, shipped_engines(), strict=True):
        assert {int(scale): value for scale, value in entry["psnr_db"].items()} == engine.psnr_db
        assert entry["speed"] == {"megapixels_per_s": 1.5, "tiles": 3, "provider": "CPUExecutionProvider"}
        assert "sr-eval" in entry["measured"]["command"] and entry["measured"]["processor"]


def test_without_times_the_list_loads_no_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delattr(engine_list, "load")
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "MP/s" not in shown and "--list --times measures how fast each is here" in shown
    assert main(["--list", "--json"]) == 0
    assert {entry["speed"] for entry in json.loads(capsys.readouterr().out)["engines"]} == {None}


class Clocked(WrappedEngine):
    """An engine whose runs take a given time by a clock of the test."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        super().__init__(engine)
        self.seconds, self.now = seconds, 0.0

    def run(self, tiles: Tiles) -> Tiles:
        self.now += self.seconds
        return tiles


def test_speed_is_the_useful_part_of_a_tile_over_its_time(identity: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Clocked(identity, 0.0625)
    monkeypatch.setattr("time.perf_counter", lambda: engine.now)
    found = engine_list.speed_of(engine)
    assert found.tiles == 5  # 0.3 s and no more
    assert found.megapixels_per_s == pytest.approx(124 * 124 / 0.0625 / 1e6)  # 128 less a halo of 2 on both sides


def test_speed_of_a_network_that_enlarges_counts_the_pixels_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Clocked(load(FOLDER / "edsr_pruned_int8.onnx", threads=1), 1.0)
    monkeypatch.setattr("time.perf_counter", lambda: engine.now)
    assert engine_list.speed_of(engine).megapixels_per_s == pytest.approx((2 * (256 - 2 * 36)) ** 2 / 1e6)


@pytest.mark.usefixtures("untimed")
def test_a_damaged_engine_is_named_and_the_others_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "engines"))
    (folder / "vdsr_pruned_qat_int8.onnx").write_bytes(b"damaged")
    assert engine_list.list_engines(threads=2, timed=True, folder=folder) == 3
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert "vdsr_pruned_qat_int8.onnx: an engine of sr-deploy is damaged" in line
    speeds = {row.split()[0]: row.split()[5] for row in shown.out.splitlines() if "_int8 " in row}
    assert speeds["vdsr_pruned_qat_int8"] == "-" and float(speeds["edsr_pruned_int8"]) > 0.0


def test_without_an_inference_engine_the_list_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "sr_deploy.runtime.backends.onnx_engine", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["--list", "--times"]) == 3
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert "pip install 'sr-deploy[cpu]'" in line
    assert "30.673" in shown.out and "MP/s:" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: PICTURE"),
        (["--list", "a.png"], "--list: shows all engines; leave a.png out"),
        (["--list", "--engine", "edsr"], "--list: shows all engines; leave --engine out"),
        (["--list", "--files-from", "names"], "--list: shows all engines; leave --files-from out"),
        (["a.png", "--json"], "--json: goes with --list"),
    ],
)
def test_a_wrong_use_of_the_list_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert error_lines(capsys) == [f"sr-infer: {message}; see sr-infer --help"]

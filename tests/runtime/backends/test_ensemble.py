"""The self-ensemble: the mean over eight views, exact through tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.ensemble import EnsembleEngine, average_views
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.infer.command import main as infer
from sr_deploy.runtime.pictures.read import read_pixels
from sr_deploy.runtime.upscaling.tiling import run_whole
from sr_deploy.runtime.upscaling.upscaling import upscale
from tests.runtime import tiny_onnx as tiny

WEIGHTS = tiny.random_weights((8, 8, 1), seed=3)


@pytest.fixture
def square(tmp_path: Path) -> Path:
    """Return an engine file with random weights and square tiles."""
    return tiny.write(tmp_path / "square_fp32.onnx", WEIGHTS, (1, 1, 48, 48))


def test_it_is_the_mean_of_eight_views_turned_back() -> None:
    def ramp(x: Tiles) -> Tiles:
        return np.asarray(x + np.arange(x.shape[-1]), np.float32)  # brighter to the right, whichever way it was turned

    x = np.random.default_rng(0).random((2, 1, 5, 5)).astype(np.float32)
    assert np.allclose(average_views(ramp)(x) - x, 2.0)  # the slope cancels, its mean stays


def test_what_commutes_with_turning_is_not_changed() -> None:
    x = np.random.default_rng(0).random((1, 1, 6, 9)).astype(np.float32)
    found = average_views(lambda v: np.repeat(np.repeat(v, 2, axis=-1), 2, axis=-2) * 3)(x)
    assert np.allclose(found, np.repeat(np.repeat(x, 2, axis=-1), 2, axis=-2) * 3)


def test_tiles_give_the_whole_pictures_ensemble(square: Path, tmp_path: Path) -> None:
    plane = np.random.default_rng(0).random((1, 90, 130), np.float32)
    huge = load(tiny.write(tmp_path / "huge_fp32.onnx", WEIGHTS, (1, 1, 96, 136)), threads=1)
    turned = load(tiny.write(tmp_path / "turned_fp32.onnx", WEIGHTS, (1, 1, 136, 96)), threads=1)
    mirrored = np.pad(plane[None], ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric")
    expected = average_views(lambda x: (huge if x.shape[-1] == 136 else turned).run(x))(mirrored)[0, :, 3:-3, 3:-3]
    found = run_whole(EnsembleEngine(load(square, threads=1), source="s"), plane)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - run_whole(load(square, threads=1), plane)).max() > 1e-3


def test_tiles_that_are_not_square_are_refused(random_file: Path) -> None:
    with pytest.raises(InputError, match=r"s: --ensemble turns tiles, its tiles are 48x64; export it with a square --shape"):
        EnsembleEngine(load(random_file, threads=1), source="s")


def test_pictures_and_measurements_take_it(square: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    Image.effect_noise((60, 50), 60).convert("RGB").save(tmp_path / "data" / "a.png")
    source = tmp_path / "data" / "a.png"
    assert infer([str(source), "--engine", str(square), "-o", str(tmp_path / "out.png"), "--ensemble", "--threads", "1"]) == 0
    expected = upscale(EnsembleEngine(load(square, threads=1), source="s"), read_pixels(source), 2)
    assert np.array_equal(read_pixels(tmp_path / "out.png"), expected)
    capsys.readouterr()
    rows = []
    for more in ([], ["--ensemble"]):
        assert evaluate([str(square), "bicubic", "--data", str(tmp_path / "data"), "--scale", "2", "--threads", "1", *more]) == 0
        rows.append([line.split()[5] for line in capsys.readouterr().out.splitlines()[3:]])
    assert rows[0][0] != rows[1][0] and rows[0][1] == rows[1][1]  # bicubic has nothing to turn

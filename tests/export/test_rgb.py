"""RGB networks through every stage: pruned, exported in three precisions, gated, evaluated, run on pictures of any mode."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sr_deploy.compress.command import main as prune
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.command import main as export
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.gate.command import main as gate
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.gate.models import open_model
from sr_deploy.luma import luma_from_rgb
from sr_deploy.planes import read_rgb_planes
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.infer.command import main as infer
from sr_deploy.runtime.pictures.read import read_pixels
from sr_deploy.runtime.upscaling.upscaling import upscale
from sr_deploy.train.loop.validation import load_validation, validate
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint

TILE = 48
CONFIGS = {
    "plain": {"blocks": 2, "features": 8},
    "vdsr": {"features": 8},
    "edsr": {"blocks": 2, "features": 8},
    "srresnet": {"blocks": 1, "features": 8, "scale": 2},
}


@pytest.fixture(scope="module", params=CONFIGS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small untrained RGB network; SRResNet's is an EDSR's neighbour, without its mean shift."""
    arch = str(request.param)
    torch.manual_seed(5)
    module = build(arch, config={**CONFIGS[arch], "colors": 3}).eval()
    path = tmp_path_factory.mktemp(arch) / f"{arch}_rgb.safetensors"
    checkpoint.save(path, module, card_of(module, scales=(2,), default_scale=2))
    return path


@pytest.fixture(scope="module")
def graphs(network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of its graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    shape = ["--shape", "1", "3", str(TILE), str(TILE)]
    assert export([str(network), "-o", str(folder), *shape, "--calib", str(photos), "--threads", "1"]) == 0
    return folder


def engine_path(graphs: Path, network: Path, precision: str = "fp32") -> Path:
    return graphs / f"{network.stem}_{precision}.onnx"


def test_the_card_says_rgb(graphs: Path, network: Path) -> None:
    for precision in ("fp32", "fp16", "int8"):
        card = read_card(engine_path(graphs, network, precision))
        assert card.color == "rgb" and card.input_shape == (1, 3, TILE, TILE) and card.config["colors"] == 3


def test_without_a_shape_the_network_decides_on_three_channels(network: Path, tmp_path: Path) -> None:
    assert export([str(network), "-o", str(tmp_path), "--precision", "fp32", "--threads", "1"]) == 0
    assert read_card(engine_path(tmp_path, network)).input_shape == (1, 3, 256, 256)


def test_a_shape_of_one_channel_is_refused(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([str(network), "-o", str(tmp_path), "--shape", "1", "1", "64", "64"]) == 2
    assert "this network takes 3 channel(s)" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_it_is_calibrated_on_rgb(photos: Path) -> None:
    tiles = CalibrationSet(Photographs(photos, "rgb"), Cut((2,), (1, 3, 32, 32), 4, "inside"))
    found = list(tiles)
    assert {tile.shape for tile in found} == {(1, 3, 32, 32)}
    assert any(not np.array_equal(tile[0, 0], tile[0, 2]) for tile in found)  # one of the photographs has colours
    assert tiles.digest != CalibrationSet(Photographs(photos, "y"), Cut((2,), (1, 1, 32, 32), 4, "inside")).digest


def test_the_gate_compares_all_channels(graphs: Path, network: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text("[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90\n[int8]\nmax_drop_db = 5\n")
    engines = [str(engine_path(graphs, network, p)) for p in ("fp32", "int8")]
    options = ["--data", str(photos), "--budget", str(tmp_path / "gates.toml"), "--threads", "1"]
    assert gate([*engines, "--reference", str(network), *options, "--json", str(tmp_path / "gate.json")]) == 0
    results = json.loads((tmp_path / "gate.json").read_text())["results"]
    assert [row["precision"] for row in results] == ["fp32", "int8"] and results[1]["threshold_ratios"]


def test_checkpoint_graph_and_validation_measure_alike(graphs: Path, network: Path, photos: Path, tmp_path: Path) -> None:
    models = [str(network), str(engine_path(graphs, network))]
    assert evaluate([*models, "--data", str(photos), "--threads", "1", "--json", str(tmp_path / "e.json")]) == 0
    first, second = json.loads((tmp_path / "e.json").read_text())["results"]
    assert first["psnr_db"] == pytest.approx(second["psnr_db"], abs=0.2)  # photographs narrower than a tile are extended
    module, card = checkpoint.load(network)
    found = validate(module, load_validation(photos, card.scales, card.color), card.scales)
    assert found[2] == pytest.approx(first["psnr_db"], abs=1e-6)


def test_the_fixed_protocol_is_refused(network: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([str(network), "--data", str(photos), "--protocol", "fixed"]) == 2
    assert "is defined for luma, this network takes RGB" in capsys.readouterr().err


def test_a_picture_comes_out_as_the_network_makes_it(graphs: Path, network: Path, pictures: Path) -> None:
    pixels = read_pixels(pictures / "coffee.png")[:90, :110, :3]
    with closing(load(engine_path(graphs, network), threads=1)) as engine:
        found, halo = upscale(engine, pixels, 2), engine.card.halo
    mirrored = np.pad(np.moveaxis(pixels, -1, 0), ((0, 0), (halo, halo), (halo, halo)), mode="symmetric")
    whole = open_model(str(network)).enlarge(mirrored.astype(np.float32) / np.float32(255.0), 2)
    inside = whole[:, 2 * halo : -2 * halo, 2 * halo : -2 * halo]
    expected = np.clip(np.rint(np.moveaxis(inside, 0, -1) * 255.0), 0, 255)
    assert np.abs(found - expected).max() <= 1  # a value at half a level may round either way
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_the_mode_of_a_picture_is_kept(graphs: Path, network: Path, pictures: Path, tmp_path: Path, mode: str) -> None:
    with Image.open(pictures / "coffee.png") as image:
        image.convert("RGBA").crop((200, 150, 270, 210)).convert(mode).save(tmp_path / "in.png")
    engine = ["--engine", str(engine_path(graphs, network)), "--threads", "1"]
    assert infer([*engine, str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as result:
        assert result.mode == mode and result.size == (140, 120)


def test_a_grey_picture_is_the_luma_of_its_rgb_copy(graphs: Path, network: Path, pictures: Path) -> None:
    grey = read_pixels(pictures / "grass.png")[:60, :70, :1]
    with closing(load(engine_path(graphs, network), threads=1)) as engine:
        ours, colour = upscale(engine, grey, 2), upscale(engine, np.repeat(grey, 3, axis=2), 2)
    full_range = np.clip((luma_from_rgb(colour) - 16.0) * 255.0 / 219.0, 0, 255)
    assert np.abs(ours[..., 0] - full_range).max() <= 1.1  # the copy's channels were rounded and clipped before


def test_it_can_be_pruned(network: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "pruned.safetensors"
    assert prune([str(network), "-o", str(output), "--val", str(photos), "--shape", "1", "3", "64", "64"]) == 0
    small, card = checkpoint.load(output)
    assert card.color == "rgb" and small(torch.rand(1, 3, 16, 16)).shape[1] == 3


def test_rgb_of_a_grey_file_is_three_equal_channels(pictures: Path) -> None:
    planes = read_rgb_planes(pictures / "grass.png")
    assert planes.shape[0] == 3 and planes.dtype == np.float32 and float(planes.max()) <= 255.0
    assert np.array_equal(planes[0], planes[1]) and np.array_equal(planes[1], planes[2])

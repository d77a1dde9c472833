"""A small network, photographs to calibrate on, and one export of it, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch
from PIL import Image

from sr_deploy.export.command import main
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (8, 8, 8, 1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a VDSR with four convolutions; serves x2 and x3."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("vdsr", WIDTHS)
    checkpoint.save(path, network, card_of(network, scales=(2, 3), default_scale=2))
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with parts of two photographs, one of them grey."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea.png", "brick.png"):
        with Image.open(ROOT / "calib_data" / "calibrate" / name) as image:
            image.crop((100, 100, 196, 180)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def exported(tiny: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of ``sr-export`` in all precisions; 32x32 tiles."""
    folder = tmp_path_factory.mktemp("exported")
    options = ["--shape", "1", "1", "32", "32", "--calib", str(photos), "--threads", "1"]
    assert main([str(tiny), "-o", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def fp32(exported: Path) -> onnx.ModelProto:
    """Return the fp32 graph of the small network, without its card."""
    model = onnx.load(exported / "tiny_fp32.onnx")
    del model.metadata_props[:]
    return model

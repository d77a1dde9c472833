"""``benchmarks/photographs.py`` with a small network: what it prints and writes is what its parts say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sr_deploy.degrade import imresize
from sr_deploy.luma import luma_from_planes
from sr_deploy.measure import psnr
from sr_deploy.planes import read_rgb_planes
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint


@pytest.fixture
def photographs(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module."""
    monkeypatch.syspath_prepend(str(root))
    return importlib.import_module("benchmarks.photographs")


def save(path: Path, arch: str, widths: tuple[int, ...], config: dict[str, float], scales: tuple[int, ...]) -> str:
    torch.manual_seed(0)
    network = build(arch, widths, config)
    checkpoint.save(path, network, card_of(network, scales=scales, default_scale=scales[0]))
    return str(path)


def test_every_model_is_measured_at_every_quality(
    photographs: ModuleType, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = save(tmp_path / "plain.safetensors", "plain", (8, 8, 4), {"scale": 2}, (2,))
    rgb = save(tmp_path / "rgb.safetensors", "plain", (8, 8, 12), {"scale": 2, "colors": 3}, (2,))
    vdsr = save(tmp_path / "vdsr.safetensors", "vdsr", (8, 1), {}, (2, 3))
    options = ["--data", str(photos), "--quality", "clean", "90", "30", "--json", str(tmp_path / "found.json")]
    assert photographs.main(["bicubic", plain, rgb, vdsr, *options, "--scale", "2", "3"]) == 0
    rows = json.loads((tmp_path / "found.json").read_text("utf-8"))["results"]
    names = ["bicubic", "bicubic", "plain.safetensors", "rgb.safetensors", "vdsr.safetensors", "vdsr.safetensors"]
    assert [(row["model"], row["scale"]) for row in rows] == list(zip(names, (2, 3, 2, 2, 2, 3), strict=True))
    assert all(list(row["psnr_db"]) == ["clean", "90", "30"] and row["images"] == 3 for row in rows)
    assert rows[0]["psnr_db"]["clean"] > rows[0]["psnr_db"]["90"] > rows[0]["psnr_db"]["30"]
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + len(rows) and " ".join(shown[0].split()) == "| luma PSNR, dB | data | scale | clean | 90 | 30 |"
    assert shown[2].split("|")[4].strip() == f"{rows[0]['psnr_db']['clean']:.2f}"


def test_clean_bicubic_is_that_of_eight_bits(photographs: ModuleType, photos: Path, tmp_path: Path) -> None:
    options = ["--data", str(photos), "--quality", "clean", "--json", str(tmp_path / "found.json")]
    assert photographs.main(["bicubic", *options]) == 0
    (row,) = json.loads((tmp_path / "found.json").read_text("utf-8"))["results"]
    found = []
    for path in sorted(photos.iterdir()):
        hr = read_rgb_planes(path)
        lr, sr = hr, hr
        for factor in (0.5, 2.0):
            lr, sr = sr, np.clip(np.rint(imresize(sr, factor)), 0, 255)
        assert lr.shape[1:] == (32, 32)
        found.append(psnr(luma_from_planes(sr), luma_from_planes(hr), shave=2))
    assert row["psnr_db"]["clean"] == pytest.approx(np.mean(found), abs=1e-4)  # float32


def test_an_engine_gives_what_its_checkpoint_gives(photographs: ModuleType, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from sr_deploy.export.command import main as export

    model = save(tmp_path / "plain.safetensors", "plain", (8, 8, 4), {"scale": 2}, (2,))
    assert export([model, "-o", str(tmp_path), "--precision", "fp32", "--shape", "1", "1", "24", "24"]) == 0
    options = ["--data", str(photos), "--quality", "clean", "50", "--json", str(tmp_path / "found.json")]
    assert photographs.main([model, str(tmp_path / "plain_fp32.onnx"), *options]) == 0
    first, second = json.loads((tmp_path / "found.json").read_text("utf-8"))["results"]
    assert second["psnr_db"] == pytest.approx(first["psnr_db"], abs=2e-3)  # a level rounded the other way here and there


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", "3"], "--scale 3: plain.safetensors serves 2; name one of them, or leave the model out"),
        (["--scale", "2", "--json", "."], "photographs.py: "),
    ],
)
def test_a_wrong_option_is_one_line(
    photographs: ModuleType,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("plain.safetensors"), "plain", (8, 8, 4), {"scale": 2}, (2,))
    assert photographs.main(["plain.safetensors", "--data", str(photos), "--json", "found.json", *more]) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1

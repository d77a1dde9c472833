"""``sr-eval`` without torch: bicubic and engines, both protocols, table and JSON."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sr_deploy.degrade import bicubic_pair, imresize
from sr_deploy.gate.eval.command import main
from sr_deploy.luma import luma_from_rgb
from sr_deploy.measure import levels, psnr, ssim
from sr_deploy.planes import read_luma
from tests.conftest import Outside
from tests.gate.conftest import SHAPE
from tests.runtime import tiny_onnx as tiny


def results(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> list[dict[str, object]]:
    assert main([*map(str, arguments), "--threads", "1", "--json", "-"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["results"]
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> str:
    assert main([*map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def number(value: object) -> float:
    assert isinstance(value, float)
    return value


def test_json_has_one_entry_for_each_model_folder_and_scale(
    capsys: pytest.CaptureFixture[str], identity: Path, data: Path, flat_picture: Path
) -> None:
    found = results(capsys, "bicubic", identity, "--data", data, flat_picture, "--scale", "2", "3")
    keys = ["model", "data", "scale", "protocol", "images", "psnr_db", "ssim", "lpips", "lpips_net", "fid"]
    assert all(list(entry) == keys for entry in found)
    assert [(e["model"], e["data"], e["scale"], e["images"]) for e in found] == [
        (model, str(folder), scale, images)
        for model in ("bicubic", str(identity))
        for folder, images in ((data, 3), (flat_picture, 1))
        for scale in (2, 3)
    ]


def test_bicubic_is_the_mean_over_pictures(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    pairs = [bicubic_pair(read_luma(path), 3) for path in sorted(data.iterdir())]
    rounded = [(np.clip(np.rint(enlarged), 0, 255), hr) for enlarged, hr in pairs]
    entry = results(capsys, "bicubic", "--data", data, "--scale", "3")[0]
    assert entry["psnr_db"] == pytest.approx(np.mean([psnr(a, b, shave=3) for a, b in rounded]), abs=1e-3)
    assert entry["ssim"] == pytest.approx(np.mean([ssim(a, b, shave=3) for a, b in rounded]), abs=1e-4)


@pytest.mark.parametrize(("scale", "published"), [("2", 33.66), ("3", 30.39), ("4", 28.42)])
def test_bicubic_on_set5_is_as_published(
    capsys: pytest.CaptureFixture[str], outside: Outside, scale: str, published: float
) -> None:
    # published with two decimals
    assert results(capsys, "bicubic", "--data", outside("set5"), "--scale", scale)[0]["psnr_db"] == pytest.approx(
        published, abs=0.0051
    )


def test_a_network_that_does_nothing_equals_bicubic(capsys: pytest.CaptureFixture[str], identity: Path, data: Path) -> None:
    ours, bicubic = results(capsys, identity, "bicubic", "--data", data)
    assert number(ours["psnr_db"]) == pytest.approx(number(bicubic["psnr_db"]), abs=1e-6)


def test_a_sharpening_network_is_better_than_bicubic(capsys: pytest.CaptureFixture[str], reference: Path, data: Path) -> None:
    ours, bicubic = results(capsys, reference, "bicubic", "--data", data)
    assert number(ours["psnr_db"]) > number(bicubic["psnr_db"]) + 0.1


def test_fixed_protocol_is_as_written_out(capsys: pytest.CaptureFixture[str], identity: Path, data: Path) -> None:
    expected = []
    for path in sorted(data.iterdir()):
        enlarged, hr = bicubic_pair(read_luma(path), 4)
        square = cv2.resize(enlarged / np.float32(255.0), (256, 256), interpolation=cv2.INTER_LINEAR)
        back = cv2.resize(square, (hr.shape[1], hr.shape[0]), interpolation=cv2.INTER_LINEAR)
        expected.append(psnr(levels(np.asarray(back, np.float32)), hr, shave=4))
    entry = results(capsys, identity, "--data", data, "--scale", "4", "--protocol", "fixed")[0]
    assert entry["protocol"] == "fixed"
    assert entry["psnr_db"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_fixed_protocol_differs_from_whole(capsys: pytest.CaptureFixture[str], identity: Path, data: Path) -> None:
    whole = results(capsys, identity, "--data", data)[0]
    fixed = results(capsys, identity, "--data", data, "--protocol", "fixed")[0]
    assert whole["psnr_db"] != fixed["psnr_db"]


def test_fixed_protocol_refuses_bicubic(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert "--protocol fixed measures networks" in refusal(capsys, "bicubic", "--data", data, "--protocol", "fixed")


def test_the_default_scale_is_the_models(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), SHAPE, default_scale=3)
    assert [e["scale"] for e in results(capsys, path, "bicubic", "--data", data)] == [3, 2]


def test_a_flat_picture_counts_as_100_db_and_is_named(
    capsys: pytest.CaptureFixture[str], flat_picture: Path, data: Path, tmp_path: Path
) -> None:
    for path in (next(flat_picture.iterdir()), next(data.iterdir())):
        shutil.copy(path, tmp_path / path.name)
    assert main(["bicubic", "--data", str(tmp_path), "--json", "-"]) == 0
    shown = capsys.readouterr()
    (found,) = json.loads(shown.out, parse_constant=pytest.fail)["results"]
    assert found["images"] == 2 and 60.0 < found["psnr_db"] < 75.0
    assert f"warning: {tmp_path}: 1 of 2 pictures come out of bicubic as they were" in shown.err
    assert main(["bicubic", "--data", str(tmp_path)]) == 0
    assert f"{found['psnr_db']:.3f}" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("offset", [math.nan, math.inf])
def test_a_network_that_returns_no_numbers_is_not_called_perfect(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, offset: float
) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), SHAPE, offset=offset)
    main([str(path), "--data", str(data), "--threads", "1"])
    found = capsys.readouterr()
    assert " inf " not in found.out and "too small" not in found.err


def test_table_names_model_folder_and_figures(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert main(["bicubic", "--data", str(data)]) == 0
    convention, heading, rule, row = capsys.readouterr().out.splitlines()
    assert convention.startswith("luma in whole levels") and "checkpoints with their zero padding" in convention
    assert heading.split()[:5] == ["model", "data", "scale", "protocol", "images"]
    assert set(rule) == {"-", " "}
    assert row.split()[:5] == ["bicubic", str(data), "x2", "whole", "3"]


def test_unrounded_luma_is_compared_as_it_is_computed(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    """The lines of pytorch-vdsr's eval.py: luma of original and result in floating point."""
    (path,) = sorted(data.iterdir())[:1]
    (tmp_path / "one").mkdir()
    shutil.copy(path, tmp_path / "one")
    luma = luma_from_rgb(np.asarray(Image.open(path).convert("RGB")))
    luma = luma[: len(luma) // 2 * 2, : luma.shape[1] // 2 * 2]
    made = np.clip(imresize(imresize(luma, 0.5), 2.0), 0, 255)
    expected = 20 * np.log10(255 / np.sqrt(np.mean((made - luma)[2:-2, 2:-2].astype(np.float64) ** 2)))
    found = results(capsys, "bicubic", "--data", tmp_path / "one", "--unrounded")[0]["psnr_db"]
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(results(capsys, "bicubic", "--data", tmp_path / "one")[0]["psnr_db"], abs=1e-4)


def test_json_file_comes_beside_the_table(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    assert main(["bicubic", "--data", str(data), "--json", str(tmp_path / "e.json")]) == 0
    assert "\nmodel" in capsys.readouterr().out
    assert json.loads((tmp_path / "e.json").read_text())["results"][0]["model"] == "bicubic"


def test_a_scale_that_is_not_served_is_refused(capsys: pytest.CaptureFixture[str], identity: Path, data: Path) -> None:
    assert "serves scales 2, 3, 4, not 5" in refusal(capsys, identity, "--data", data, "--scale", "5")


@pytest.mark.parametrize("size", [(3, 3), (12, 12), (14, 60), (1, 1)])
def test_a_picture_too_small_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, size: tuple[int, int]) -> None:
    Image.effect_noise(size, 40).save(tmp_path / "small.png")
    message = refusal(capsys, "bicubic", "--data", tmp_path, "--scale", "4")
    assert "small.png: too small to measure at x4" in message


@pytest.mark.parametrize("name", ["none.onnx", "model.pt", "bicubix"])
def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, name: str) -> None:
    assert name in refusal(capsys, tmp_path / name, "--data", data)


def test_a_folder_that_is_missing_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "not a folder" in refusal(capsys, "bicubic", "--data", tmp_path / "none")


def test_engines_are_measured_without_torch(identity: Path, data: Path) -> None:
    code = (
        "import sys; from sr_deploy.gate.eval.command import main; code = main(sys.argv[1:]);"
        "print([m for m in ('torch', 'onnx') if m in sys.modules]); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, str(identity), "bicubic", "--data", str(data)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"


def test_a_name_is_the_engine_of_each_scale(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", "--data", str(data), "--scale", "2", "4", "--threads", "1"]) == 0
    assert [line.split()[:3:2] for line in capsys.readouterr().out.splitlines()[3:]] == [["m", "x2"], ["m", "x4"]]

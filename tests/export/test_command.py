"""``sr-export`` from its arguments to the files."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from sr_deploy.errors import CheckError
from sr_deploy.export import job, prepare
from sr_deploy.export import run as stage
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.command import NAMED, main, parser
from sr_deploy.export.options import ExportOptions
from sr_deploy.options import options_from
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.cli import error_lines

Run = Callable[..., int]


@pytest.fixture
def run(tiny: Path, photos: Path, tmp_path: Path) -> Run:
    """Return ``sr-export`` of the small network into ``tmp_path / "out"``, 32x32 tiles unless said otherwise."""

    def export(*more: str, network: Path = tiny, shape: str = "1 1 32 32", calib: Path = photos) -> int:
        options = ["-o", str(tmp_path / "out"), "--shape", *shape.split(), "--calib", str(calib), "--threads", "1"]
        return main([str(network), *options, *more])

    return export


def seeded(widths: tuple[int, ...]) -> Network:
    """Return a freshly initialised VDSR, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build("vdsr", widths)


def written(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []


def test_all_precisions_are_written_by_default(exported: Path) -> None:
    names = ["tiny_fp16.onnx", "tiny_fp32.onnx", "tiny_int8.onnx", "tiny_int8.thresholds.json"]
    assert sorted(p.name for p in exported.iterdir()) == names


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_card_of_each_graph_is_complete(exported: Path, tiny: Path, precision: str) -> None:
    card, parent = read_card(exported / f"tiny_{precision}.onnx"), checkpoint.read_card(tiny)
    assert (card.arch, card.widths, card.scales, card.default_scale) == ("vdsr", (8, 8, 8, 1), (2, 3), 2)
    assert (card.precision, card.halo, card.opset) == (precision, 4, 17)
    assert card.input_shape == card.output_shape == (1, 1, 32, 32)
    assert card.macs == 32 * 32 * 9 * (8 + 64 + 64 + 8)
    assert card.parent_digest == parent.digest
    inner = "fp32" if precision == "fp32" else precision
    outer = "fp32" if precision == "int8" else precision
    assert card.layers == {"conv1": outer, "conv2": inner, "conv3": inner, "conv4": outer}
    assert {"sr-deploy", "torch", "onnx"} <= set(card.versions)


def test_card_of_the_int8_graph_names_its_calibration(exported: Path) -> None:
    card = read_card(exported / "tiny_int8.onnx")
    assert (card.calibration, card.calibrated_scale) == ("mse", None)  # at both scales together
    assert card.thresholds_digest == read_calibration(exported / "tiny_int8.thresholds.json").digest
    assert read_card(exported / "tiny_fp32.onnx").thresholds_digest is None


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 3e-2)])
def test_engines_compute_the_network(exported: Path, tiny: Path, precision: str, limit: float) -> None:
    tiles = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    with torch.no_grad():
        expected = checkpoint.load(tiny)[0](torch.from_numpy(tiles)).numpy()
    # fp32: another order of sums; fp16: 11 bits; int8: the residual, about 0.1, in 127 steps over several layers
    assert np.abs(load(exported / f"tiny_{precision}.onnx", threads=1).run(tiles) - expected).max() < limit


@pytest.mark.slow
def test_equal_bytes_from_another_process_in_another_folder(tiny: Path, photos: Path, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there" / "deeper"
    folder.mkdir(parents=True)
    shutil.copy(tiny, folder / tiny.name)
    command = [sys.executable, "-m", "sr_deploy.export.command", tiny.name, "-o", "out", "--calib", str(photos)]
    subprocess.run([*command, "--shape", "1", "1", "32", "32"], cwd=folder, check=True, capture_output=True)
    files = {p.name: p.read_bytes() for p in (folder / "out").iterdir()}
    assert files == {p.name: p.read_bytes() for p in exported.iterdir()}


def test_halo_and_useful_share_are_printed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "fp32") == 0
    assert "tiny: halo 4 pixels, 56 % of a tile is useful" in capsys.readouterr().out


def test_a_wasteful_tile_is_warned_about_with_a_better_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "fp32", shape="1 1 16 16") == 0
    found = capsys.readouterr().out
    assert "warning: below 40 %" in found and "--shape 1 1 64 64 reaches 70 %" in found
    assert ((64 - 2 * 4) / 64) ** 2 >= 0.7


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("1 1 8 8", "--shape 1 1 8 8: not larger than twice the halo of 4 pixels; "),
        ("1 3 32 32", "--shape 1 3 32 32: this network takes 1 channel"),
        ("0 1 32 32", "--shape 0 1 32 32"),
        ("1 1 -5 32", "--shape 1 1 -5 32"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: str, message: str
) -> None:
    assert run(shape=shape) == 2
    lines = error_lines(capsys)
    assert len(lines) == 1 and message in lines[0]
    assert written(tmp_path) == []


def test_a_tile_just_larger_than_twice_the_halo_is_exported(run: Run, tmp_path: Path) -> None:
    assert run("--precision", "fp32", shape="1 1 9 9") == 0
    assert written(tmp_path) == ["tiny_fp32.onnx"]


def test_a_batch_of_two_is_exported(run: Run, tmp_path: Path, exported: Path) -> None:
    assert run("--precision", "int8", shape="2 1 32 32") == 0
    tiles = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    ours, theirs = (load(folder / "tiny_int8.onnx", threads=1) for folder in (tmp_path / "out", exported))
    assert ours.card.input_shape == (2, 1, 32, 32)
    assert ours.card.macs == 2 * (theirs.card.macs or 0)
    assert np.allclose(ours.run(tiles), theirs.run(tiles), atol=1e-6)


def test_another_scale_is_in_the_name_and_the_card(run: Run, tmp_path: Path) -> None:
    assert run("--precision", "int8", "--scale", "3") == 0
    assert written(tmp_path) == ["tiny_x3_int8.onnx", "tiny_x3_int8.thresholds.json"]
    card = read_card(tmp_path / "out" / "tiny_x3_int8.onnx")
    assert (card.calibrated_scale, card.default_scale) == (3, 3)


@pytest.mark.parametrize("scale", ["1", "4"])
def test_a_scale_that_is_not_served_is_refused(run: Run, capsys: pytest.CaptureFixture[str], scale: str) -> None:
    assert run("--scale", scale) == 2
    assert f"--scale {scale}: " in (line := error_lines(capsys)[0]) and "serves 2, 3; choose one of them" in line


def test_kept_layers_stay_fp32(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "int8", "--keep", "conv2") == 0
    card = read_card(tmp_path / "out" / "tiny_int8.onnx")
    assert card.layers == {"conv1": "fp32", "conv2": "fp32", "conv3": "int8", "conv4": "fp32"}
    assert "44.4 % of the multiplications in int8, fp32: conv1, conv2, conv4" in capsys.readouterr().out


def test_kept_layers_read_float_activations(run: Run, tmp_path: Path) -> None:
    assert run("--precision", "int8", "--keep", "conv3") == 0
    model = onnx.load(tmp_path / "out" / "tiny_int8.onnx")
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert len(quantized) == 1  # the input of conv2
    assert {node.op_type for node in model.graph.node if "conv2.output" in node.input} <= {"Relu", "LeakyRelu"}


def test_an_unknown_layer_to_keep_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--keep", "conv7") == 2
    assert "--keep conv7: no convolution of this network; known: conv1, conv2, conv3, conv4" in error_lines(capsys)[0]
    assert written(tmp_path) == []


def test_all_layers_can_be_quantized(run: Run, tmp_path: Path) -> None:
    assert run("--precision", "int8", "--all-layers") == 0
    assert set(read_card(tmp_path / "out" / "tiny_int8.onnx").layers.values()) == {"int8"}


def test_equal_thresholds_are_reused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "int8") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert run("--precision", "int8") == 0
    assert "reused, made from the same graph and pictures" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_other_thresholds_are_not_reused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "int8") == 0
    first = (tmp_path / "out" / "tiny_int8.onnx").read_bytes()
    assert run("--precision", "int8", "--method", "minmax") == 0
    assert "not reused" in capsys.readouterr().out
    assert (tmp_path / "out" / "tiny_int8.onnx").read_bytes() != first
    assert read_card(tmp_path / "out" / "tiny_int8.onnx").calibration == "minmax"


def test_thresholds_of_a_file_are_used(run: Run, exported: Path, tmp_path: Path) -> None:
    assert run("--precision", "int8", "--thresholds", str(exported / "tiny_int8.thresholds.json")) == 0
    assert written(tmp_path) == ["tiny_int8.onnx"]
    assert (tmp_path / "out" / "tiny_int8.onnx").read_bytes() == (exported / "tiny_int8.onnx").read_bytes()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--method", "kl"], "method"),
        (["--calib-tiles", "3"], "calibration pictures"),
        (["--scale", "3"], "calibration pictures"),
    ],
)
def test_thresholds_of_something_else_are_refused(
    run: Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], what: str
) -> None:
    assert run("--precision", "int8", "--thresholds", str(exported / "tiny_int8.thresholds.json"), *more) == 2
    assert f"made with {what} " in error_lines(capsys)[-1]  # behind a warning of too few tiles
    assert written(tmp_path) == []


def test_thresholds_of_another_network_are_refused(
    run: Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = seeded((8, 8, 8, 1))
    checkpoint.save(tmp_path / "tiny.safetensors", network, card_of(network, scales=(2, 3), default_scale=2))
    stored = str(exported / "tiny_int8.thresholds.json")
    assert run("--precision", "int8", "--thresholds", stored, network=tmp_path / "tiny.safetensors") == 2
    assert "made with graph " in error_lines(capsys)[0]


def test_thresholds_that_break_the_graph_are_refused_and_nothing_is_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = seeded((8, 8, 8, 1))
    with torch.no_grad():
        network.get_submodule("conv4").weight.mul_(2.0)  # type: ignore[operator]
    checkpoint.save(tmp_path / "strong.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    assert run("--precision", "int8", network=tmp_path / "strong.safetensors") == 0
    made = read_calibration(tmp_path / "out" / "strong_int8.thresholds.json")
    small = {name: 1e-4 * value for name, value in made.thresholds.items()}
    replace(made, thresholds=small).write(tmp_path / "t.json")
    shutil.rmtree(tmp_path / "out")
    stored = str(tmp_path / "t.json")
    assert run("--precision", "int8", "--thresholds", stored, network=tmp_path / "strong.safetensors") == 1
    assert "strong_int8: agrees with fp32 by" in error_lines(capsys)[0]
    assert written(tmp_path) == []


def test_a_graph_that_leaves_the_picture_as_it_is_is_refused(tiny: Path, photos: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "out"), "--shape", "1", "1", "32", "32", "--calib", str(photos), "--threads", "1"]
    export = prepare.prepare(tiny, options_from(ExportOptions, parser().parse_args([str(tiny), *options]), NAMED))
    dead = onnx.ModelProto()
    dead.CopyFrom(export.model)
    tensor = next(t for t in dead.graph.initializer if t.name == "conv4.weight")
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    agreement, untouched = job.agreement_db(export, dead)
    assert agreement == pytest.approx(untouched, abs=1e-6)
    assert job.agreement_db(export, export.model)[0] == 200.0
    with pytest.raises(CheckError, match=r"tiny_int8: agrees with fp32 by .* the limit is .*its own input reaches"):
        job.write(export, dead, export.card.with_changes(precision="int8"))
    assert written(tmp_path) == []


@pytest.mark.parametrize("halo", [1, 4, 20, 26, 36, 80, 163])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_the_advised_tile_reaches_the_share_and_no_smaller_one_does(halo: int, share: float) -> None:
    side = stage.side_for_share(halo, share)
    assert side % 32 == 0 and ((side - 2 * halo) / side) ** 2 >= share
    assert side == 32 or max(side - 32 - 2 * halo, 0) ** 2 < share * (side - 32) ** 2


def test_what_keep_names_reads_floats(run: Run, tmp_path: Path) -> None:
    assert run("--precision", "int8", "--keep", "conv3") == 0
    model = onnx.load(tmp_path / "out" / "tiny_int8.onnx")
    makers = {value: node for node in model.graph.node for value in node.output}
    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    relu = makers[convolutions["conv3"].input[0]]
    assert relu.op_type == "Relu" and makers[relu.input[0]].name == "conv2"
    assert read_card(tmp_path / "out" / "tiny_int8.onnx").layers["conv3"] == "fp32"


def test_edited_thresholds_are_refused(run: Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (exported / "tiny_int8.thresholds.json").read_text()
    (tmp_path / "t.json").write_text(re.sub(r'"conv2": (?=[0-9])', '"conv2": 1', text))
    assert run("--precision", "int8", "--thresholds", str(tmp_path / "t.json")) == 2
    assert "t.json: changed after it was made" in error_lines(capsys)[0]
    assert written(tmp_path) == []


def test_a_graph_that_differs_from_pytorch_is_refused(tiny: Path, photos: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "out"), "--shape", "1", "1", "32", "32", "--calib", str(photos), "--threads", "1"]
    export = prepare.prepare(tiny, options_from(ExportOptions, parser().parse_args([str(tiny), *options]), NAMED))
    tensor = next(t for t in export.model.graph.initializer if t.name == "conv4.weight")
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[np.abs(values).argmax()] *= -1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(CheckError, match=r"tiny: the graph differs from PyTorch by .*, the limit is 1e-04"):
        prepare.check_against_torch(export)
    assert written(tmp_path) == []


def test_a_network_that_returns_no_numbers_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = seeded((8, 1))
    with torch.no_grad():
        network.get_submodule("conv2").weight[0, 0, 0, 0] = float("nan")  # type: ignore[operator]
    checkpoint.save(tmp_path / "nan.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    assert run(network=tmp_path / "nan.safetensors") in (1, 2)
    assert len(error_lines(capsys)) == 1
    assert written(tmp_path) == []


def test_nodes_that_could_overflow_are_kept_and_named(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = seeded((8, 8, 1))
    with torch.no_grad():
        network.get_submodule("conv1").weight.mul_(1e5)  # type: ignore[operator]
        network.get_submodule("conv2").weight.mul_(1e-5)  # type: ignore[operator]
    checkpoint.save(tmp_path / "loud.safetensors", network, card_of(network, scales=(2,), default_scale=2))
    assert run("--precision", "fp32", "fp16", network=tmp_path / "loud.safetensors") == 0
    assert "loud: conv1 could overflow float16 and stays fp32" in capsys.readouterr().out
    card = read_card(tmp_path / "out" / "loud_fp16.onnx")
    assert card.layers == {"conv1": "fp32", "conv2": "fp16", "conv3": "fp16"}


def test_a_missing_or_damaged_checkpoint_is_one_line(
    run: Run, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(network=tmp_path / "none.safetensors") == 2
    (tmp_path / "cut.safetensors").write_bytes(tiny.read_bytes()[:-1])
    assert run(network=tmp_path / "cut.safetensors") == 2
    assert len(error_lines(capsys)) == 2
    assert written(tmp_path) == []


def test_an_empty_calibration_folder_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(calib=tmp_path / "empty") == 2
    assert "holds no picture" in error_lines(capsys)[0]
    assert written(tmp_path) == []


def test_a_file_where_a_folder_is_needed_is_the_callers_mistake(tiny: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    options = ["--shape", "1", "1", "32", "32", "--calib", str(photos), "--precision", "fp32"]
    assert main([str(tiny), "-o", str(tmp_path / "file" / "out"), *options]) == 2
    assert (tmp_path / "file").read_text() == "kept"


def test_a_graph_is_one_file(exported: Path) -> None:
    model = onnx.load(exported / "tiny_fp32.onnx", load_external_data=False)
    assert all(not tensor.external_data for tensor in model.graph.initializer)


def test_a_calibration_cache_of_tensorrt_gives_thresholds(run: Run, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "tiny_fp32.onnx")
    values = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    lines = ["TRT-8601-EntropyCalibration2", *(f"{value}: {struct.pack('>f', 2.0 / 127).hex()}" for value in values)]
    (tmp_path / "cache").write_text("\n".join(lines))
    assert run("--precision", "int8", "--thresholds", str(tmp_path / "cache")) == 0
    card = read_card(tmp_path / "out" / "tiny_int8.onnx")
    assert (card.calibration, card.calibrated_scale) == ("tensorrt", None)
    (tmp_path / "cache").write_text("TRT-8601-EntropyCalibration2\nother: 3c010204")
    assert run("--precision", "int8", "--thresholds", str(tmp_path / "cache")) == 2

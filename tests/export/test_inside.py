"""A network that enlarges inside, through every stage: export in three precisions, gate, evaluation, pictures."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from sr_deploy.degrade import imresize, network_pair
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.command import main as export
from sr_deploy.export.graphs.reading import residual_outputs
from sr_deploy.export.photographs import Cut, Photographs
from sr_deploy.export.plans.graph import float_weights, half_remainder, pairs_behind_relus, with_batch
from sr_deploy.gate.command import main as gate
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.infer.command import main as infer
from sr_deploy.runtime.pictures.read import read_pixels
from sr_deploy.runtime.upscaling.tiling import run_whole
from sr_deploy.thresholds import OUTPUT_KEY
from sr_deploy.train.networks.registry import build, card_of
from sr_deploy.train.weights import checkpoint

SCALES = (2, 3, 4)
TILE = 40


@pytest.fixture(scope="module", params=SCALES)
def scale(request: pytest.FixtureRequest) -> int:
    """Return each factor that EDSR serves."""
    return int(request.param)


@pytest.fixture(scope="module")
def network(scale: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small EDSR that enlarges a little better than by repetition: untrained, but not dead."""
    torch.manual_seed(scale)
    module = build("edsr", config={"scale": scale, "blocks": 2, "features": 8})
    path = tmp_path_factory.mktemp("edsr") / f"edsr_x{scale}.safetensors"
    checkpoint.save(path, module, card_of(module, scales=(scale,), default_scale=scale))
    return path


@pytest.fixture(scope="module")
def graphs(network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of its graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    shape = ["--shape", "1", "1", str(TILE), str(TILE)]
    assert export([str(network), "-o", str(folder), *shape, "--calib", str(photos), "--threads", "1"]) == 0
    return folder


def test_the_graph_enlarges(graphs: Path, scale: int) -> None:
    for precision in ("fp32", "fp16", "int8"):
        card = read_card(graphs / f"edsr_x{scale}_{precision}.onnx")
        assert card.upscale == "inside" and card.input_shape == (1, 1, TILE, TILE)
        assert card.output_shape == (1, 1, scale * TILE, scale * TILE)
        assert card.config == {"scale": scale, "colors": 1, "res_scale": 1.0} and card.halo == 8
    kinds = {node.op_type for node in onnx.load(graphs / f"edsr_x{scale}_fp32.onnx").graph.node}
    assert kinds == {"Conv", "Relu", "Add", "DepthToSpace"}  # no leftover slicing, padding or reshaping


def test_the_first_and_last_convolution_stay_float_and_biases_too(graphs: Path, scale: int) -> None:
    path = graphs / f"edsr_x{scale}_int8.onnx"
    card = read_card(path)
    assert {name for name, kind in card.layers.items() if kind == "fp32"} == {"head", "tail"}
    biases = [t for t in onnx.load(path).graph.initializer if t.name.endswith(".bias")]
    assert len(biases) == len(card.layers) and {t.data_type for t in biases} == {onnx.TensorProto.FLOAT}


def test_thresholds_are_those_of_the_largest_value_unless_told_otherwise(graphs: Path, scale: int) -> None:
    assert read_card(graphs / f"edsr_x{scale}_int8.onnx").calibration == "minmax"
    assert read_calibration(graphs / f"edsr_x{scale}_int8.thresholds.json").method == "minmax"


def test_what_ends_a_block_is_quantized_and_the_stream_is_not(graphs: Path, scale: int) -> None:
    model = onnx.load(graphs / f"edsr_x{scale}_int8.onnx")
    made = {output: node for node in model.graph.node for output in node.output}
    additions = [[made[name].op_type for name in node.input] for node in model.graph.node if node.op_type == "Add"]
    blocks, long_skip = [["Add", "DequantizeLinear"], ["Conv", "DequantizeLinear"]], ["Conv", "Conv"]
    assert sorted(map(sorted, additions)) == sorted([*blocks, long_skip])
    stored = read_calibration(graphs / f"edsr_x{scale}_int8.thresholds.json").thresholds
    ends = {name for name in stored if name.endswith(".output")}
    assert ends == {f"body.{i}.conv2.output" for i in (0, 1)}
    assert ends == {f"{name}.output" for name in residual_outputs(onnx.load(graphs / f"edsr_x{scale}_fp32.onnx"))}


def test_tiles_give_the_whole_pictures_result(graphs: Path, network: Path, scale: int) -> None:
    plane = np.random.default_rng(0).random((1, 71, 95), np.float32)
    module, _ = checkpoint.load(network)
    with closing(load(graphs / f"edsr_x{scale}_fp32.onnx", threads=1)) as engine:
        found, halo = run_whole(engine, plane), engine.card.halo
    mirrored = np.pad(plane, ((0, 0), (halo, halo), (halo, halo)), mode="symmetric")
    with torch.no_grad():
        expected = module(torch.from_numpy(mirrored)[None])[0].numpy()
    inside = slice(halo * scale, -halo * scale)
    expected = expected[:, inside, inside]
    assert found.shape == (1, 71 * scale, 95 * scale) and np.abs(found - expected).max() < 1e-5


def test_what_it_reads_is_the_small_picture(scale: int) -> None:
    hr = np.random.default_rng(0).random((61, 47), np.float32)
    given, cut = network_pair(hr, scale, "inside")
    assert given.shape == (61 // scale, 47 // scale) and cut.shape == (61 // scale * scale, 47 // scale * scale)
    assert np.array_equal(given, imresize(cut, 1 / scale))


def test_the_gate_measures_it(graphs: Path, network: Path, photos: Path, scale: int, tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text("[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90\n[int8]\nmax_drop_db = 5\n")
    engines = [str(graphs / f"edsr_x{scale}_{p}.onnx") for p in ("fp32", "int8")]
    options = [
        "--data",
        str(photos),
        "--budget",
        str(tmp_path / "gates.toml"),
        "--json",
        str(tmp_path / "gate.json"),
        "--threads",
        "1",
    ]
    assert gate([*engines, "--reference", str(network), *options]) == 0
    results = json.loads((tmp_path / "gate.json").read_text())["results"]
    assert [row["precision"] for row in results] == ["fp32", "int8"]
    ratios, layers = results[1]["threshold_ratios"], set(read_card(Path(engines[1])).layers) - {"head", "tail"}
    assert {name.removesuffix(OUTPUT_KEY) for name in ratios} == layers < ratios.keys()  # ends of blocks have two
    assert list(ratios.values()) == pytest.approx([1.0] * len(ratios))


def test_a_checkpoint_and_its_graph_measure_alike(
    graphs: Path, network: Path, photos: Path, scale: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(network), str(graphs / f"edsr_x{scale}_fp32.onnx")]
    assert evaluate([*models, "--data", str(photos), "--threads", "1", "--json", str(tmp_path / "e.json")]) == 0
    first, second = json.loads((tmp_path / "e.json").read_text())["results"]
    assert first["scale"] == second["scale"] == scale and first["psnr_db"] == pytest.approx(second["psnr_db"], abs=0.2)
    capsys.readouterr()
    assert evaluate([models[0], "--data", str(photos), "--protocol", "fixed"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--protocol fixed measures networks that sharpen" in line


def test_pictures_are_enlarged_by_it(graphs: Path, network: Path, scale: int, tmp_path: Path) -> None:
    engine = graphs / f"edsr_x{scale}_int8.onnx"
    noise = Image.effect_noise((53, 41), 60)
    for mode in ("RGB", "L", "RGBA"):
        noise.convert(mode).save(tmp_path / f"{mode}.png")
        assert infer([str(tmp_path / f"{mode}.png"), "--engine", str(engine), "--threads", "1"]) == 0
        with Image.open(tmp_path / f"{mode}_x{scale}.png") as found:
            assert found.size == (53 * scale, 41 * scale) and found.mode == mode
    grey, colour = (read_pixels(tmp_path / f"{mode}_x{scale}.png") for mode in ("L", "RGB"))
    assert np.abs(grey[..., 0].astype(int) - colour[..., 1]).max() <= 1


def test_tensorrt_is_given_equal_graphs(graphs: Path, photos: Path, scale: int) -> None:
    model = onnx.load(graphs / f"edsr_x{scale}_int8.onnx")
    del model.metadata_props[:]
    tile = next(iter(CalibrationSet(Photographs(photos, "y"), Cut((scale,), (1, 1, TILE, TILE), 1, "inside"))))
    behind = pairs_behind_relus(model)
    plain = ort.SessionOptions()  # node by node: fused integer kernels round in another order
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected, *others = (
        ort.InferenceSession(m.SerializeToString(), plain, providers=["CPUExecutionProvider"]).run(None, {"input": tile})[0]
        for m in (model, behind, float_weights(behind), half_remainder(behind))
    )
    for found, limit in zip(others, (1e-6, 1e-6, 3e-2), strict=True):
        assert found.shape == expected.shape and np.abs(found - expected).max() < limit
    for batch in (2, None):
        assert with_batch(model, batch).graph.output[0].type.tensor_type.shape.dim[2].dim_value == scale * TILE


def test_another_scale_is_refused(graphs: Path, scale: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    other = {2: 3, 3: 4, 4: 2}[scale]
    engine = graphs / f"edsr_x{scale}_fp32.onnx"
    assert infer([str(tmp_path / "a.png"), "--engine", str(engine), "--scale", str(other)]) == 2
    assert f"serves scales {scale}, not {other}" in capsys.readouterr().err


def test_srresnet_goes_through_every_stage_with_its_norms_folded(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build("srresnet", config={"blocks": 2, "features": 8})
    for _ in range(3):
        module(torch.rand(2, 1, 16, 16))  # in training mode: the norms see data
    path = tmp_path / "s.safetensors"
    checkpoint.save(path, module.eval(), card_of(module, scales=(4,), default_scale=4))
    options = ["--shape", "1", "1", "40", "40", "--calib", str(photos), "--threads", "1"]
    assert export([str(path), "-o", str(tmp_path), *options]) == 0
    kinds = {node.op_type for node in onnx.load(tmp_path / "s_fp32.onnx").graph.node}
    assert kinds == {"Conv", "PRelu", "Add", "DepthToSpace"}
    (tmp_path / "gates.toml").write_text(
        "[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90\nmax_weight_error_steps = 0\n"
        "[fp16]\nmin_agreement_db = 60\n[int8]\nmin_agreement_db = 35\nmax_weight_error_steps = 0.51\n"
    )
    engines = [str(tmp_path / f"s_{precision}.onnx") for precision in ("fp32", "fp16", "int8")]
    checks = ["--data", str(photos), "--budget", str(tmp_path / "gates.toml"), "--threads", "1"]
    assert gate([*engines, "--reference", str(path), *checks]) == 0
    Image.effect_noise((47, 44), 60).convert("RGB").save(tmp_path / "a.png")
    assert infer([str(tmp_path / "a.png"), "--engine", engines[2], "--threads", "1"]) == 0
    with Image.open(tmp_path / "a_x4.png") as found:
        assert found.size == (188, 176)

"""MDSR through every stage: trained in one file, pruned, and one scale at a time exported, gated, evaluated and run."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from sr_deploy.compress.command import main as prune
from sr_deploy.export.calibration.calibrate import read_calibration
from sr_deploy.export.command import main as export
from sr_deploy.export.graphs.reading import residual_outputs
from sr_deploy.gate.command import main as gate
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.infer.command import main as infer
from sr_deploy.runtime.upscaling.tiling import run_whole
from sr_deploy.thresholds import OUTPUT_KEY
from sr_deploy.train.networks.registry import build, card_of, convolutions, macs
from sr_deploy.train.weights import checkpoint

SCALES = (2, 3, 4)
TILE = 40
SHAPE = ("--shape", "1", "1", str(TILE), str(TILE))
ENDS = {f"{block}.conv2" for block in ("body.0", "body.1")}
BUDGET = "max_weight_error_steps = {}\nmax_threshold_ratio = 1.01\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small MDSR, untrained, for all scales."""
    torch.manual_seed(0)
    module = build("mdsr", config={"blocks": 2, "features": 8})
    path = tmp_path_factory.mktemp("mdsr") / "mdsr.safetensors"
    checkpoint.save(path, module, card_of(module, scales=SCALES, default_scale=2))
    return path


@pytest.fixture(scope="module", params=SCALES)
def scale(request: pytest.FixtureRequest) -> int:
    """Return each factor that it serves."""
    return int(request.param)


@pytest.fixture(scope="module")
def stem(network: Path, scale: int, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder and the name, without precision, of its graphs for a scale."""
    folder = tmp_path_factory.mktemp("graphs")
    options = [*SHAPE, "--calib", str(photos), "--threads", "1", "--scale", str(scale)]
    assert export([str(network), "-o", str(folder), *options]) == 0
    return folder / {2: "mdsr", 3: "mdsr_x3", 4: "mdsr_x4"}[scale]


def graph(stem: Path, precision: str) -> Path:
    return stem.with_name(f"{stem.name}_{precision}.onnx")


def test_one_scale_is_taken_out(stem: Path, network: Path, scale: int) -> None:
    whole, parent = checkpoint.load(network)
    one = whole.at_scale(scale)
    for precision in ("fp32", "fp16", "int8"):
        card = read_card(graph(stem, precision))
        assert (card.arch, card.scales, card.default_scale, card.upscale) == ("mdsr", (scale,), scale, "inside")
        assert card.config == {**{f"x{s}": int(s == scale) for s in SCALES}, "colors": 1, "res_scale": 1.0}
        assert card.input_shape == (1, 1, TILE, TILE) and card.output_shape == (1, 1, scale * TILE, scale * TILE)
        assert card.widths == one.config.widths and card.parent_digest == parent.digest  # type: ignore[union-attr]
        assert card.macs == macs(one, (1, 1, TILE, TILE)) and card.halo == one.halo() == 16
    found = onnx.load(graph(stem, "fp32")).graph
    assert {node.op_type for node in found.node} == {"Conv", "Relu", "Add", "DepthToSpace"}  # no leftover slicing
    assert {node.name for node in found.node if node.op_type == "Conv"} == set(convolutions(one))
    stored = sum(int(np.prod(tensor.dims)) for tensor in found.initializer)
    assert stored == sum(parameter.numel() for parameter in one.parameters())  # nothing of the other scales


def test_the_ends_of_all_blocks_are_quantized_and_the_stream_is_not(stem: Path, scale: int) -> None:
    ends = {*ENDS, f"pre.x{scale}.0.conv2", f"pre.x{scale}.1.conv2"}
    assert set(residual_outputs(onnx.load(graph(stem, "fp32")))) == ends
    stored = read_calibration(stem.with_name(f"{stem.name}_int8.thresholds.json"))
    assert {name for name in stored.thresholds if name.endswith(".output")} == {f"{name}.output" for name in ends}
    card = read_card(graph(stem, "int8"))
    assert (stored.scales, card.calibrated_scale, card.calibration) == ((scale,), scale, "minmax")
    assert {name for name, kind in card.layers.items() if kind == "fp32"} == {"head", "tail"}
    model = onnx.load(graph(stem, "int8"))
    made = {output: node for node in model.graph.node for output in node.output}
    additions = [sorted(made[name].op_type for name in node.input) for node in model.graph.node if node.op_type == "Add"]
    assert additions == [["Conv", "DequantizeLinear"], *[["Add", "DequantizeLinear"]] * 3, ["Add", "Conv"]]


def test_tiles_give_the_whole_pictures_result(stem: Path, network: Path, scale: int) -> None:
    plane = np.random.default_rng(0).random((1, 71, 95), np.float32)
    module, _ = checkpoint.load(network)
    with torch.no_grad():
        mirrored = np.pad(plane[None], ((0, 0), (0, 0), (16, 16), (16, 16)), mode="symmetric")
        cut = slice(16 * scale, -16 * scale)
        expected = module(torch.from_numpy(mirrored), scale)[0].numpy()[:, cut, cut]
    with closing(load(graph(stem, "fp32"), threads=1)) as engine:
        found = run_whole(engine, plane)
    assert found.shape == (1, 71 * scale, 95 * scale) and np.abs(found - expected).max() < 1e-5


def run_gate(engines: list[Path], reference: Path, photos: Path, folder: Path) -> int:
    (folder / "gates.toml").write_text(
        f"[fp32]\nmin_agreement_db = 90\n{BUDGET.format(0)}[fp16]\nmin_agreement_db = 60\n{BUDGET.format(0.51)}"
        f"[int8]\nmax_drop_db = 5\n{BUDGET.format(0.51)}"
    )
    options = ["--data", str(photos), "--budget", str(folder / "gates.toml"), "--json", str(folder / "g.json"), "--threads", "1"]
    return gate([*map(str, engines), "--reference", str(reference), *options])


def test_the_gate_holds_it_against_its_branch_of_the_checkpoint(
    stem: Path, network: Path, photos: Path, scale: int, tmp_path: Path
) -> None:
    engines = [graph(stem, precision) for precision in ("fp32", "fp16", "int8")]
    assert run_gate(engines, network, photos, tmp_path) == 0
    results = json.loads((tmp_path / "g.json").read_text())["results"]
    assert [(row["precision"], row["scale"], row["weight_error_steps"] is None) for row in results] == [
        (precision, scale, False) for precision in ("fp32", "fp16", "int8")
    ]
    ratios, layers = results[2]["threshold_ratios"], set(read_card(engines[2]).layers) - {"head", "tail"}
    assert {name.removesuffix(OUTPUT_KEY) for name in ratios} == layers and set(ratios.values()) == {1.0}
    assert run_gate(engines[2:], graph(stem, "fp32"), photos, tmp_path) == 0  # the fp32 graph is as good a reference


def test_a_weight_of_the_branch_that_is_off_fails_the_gate(
    stem: Path, network: Path, photos: Path, scale: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, card = checkpoint.load(network)
    with torch.no_grad():
        convolutions(module)[f"pre.x{scale}.1.conv1"].weight[0, 0, 0, 0] += 1.0
        convolutions(module)[f"pre.x{2 if scale == 3 else 3}.0.conv1"].weight.fill_(9.0)  # of no concern to this graph
    checkpoint.save(tmp_path / "off.safetensors", module, card)
    assert run_gate([graph(stem, "int8")], tmp_path / "off.safetensors", photos, tmp_path) == 1
    assert f"a weight of pre.x{scale}.1.conv1 is" in capsys.readouterr().err


def test_engines_of_several_scales_are_gated_together(network: Path, photos: Path, tmp_path: Path) -> None:
    options = [*SHAPE, "--calib", str(photos), "--threads", "1", "--precision", "fp32"]
    for scale in (2, 4):
        assert export([str(network), "-o", str(tmp_path), *options, "--scale", str(scale)]) == 0
    engines = [tmp_path / name for name in ("mdsr_fp32.onnx", "mdsr_x4_fp32.onnx")]
    assert run_gate(engines, network, photos, tmp_path) == 0
    assert [row["scale"] for row in json.loads((tmp_path / "g.json").read_text())["results"]] == [2, 4]


def test_the_wrong_checkpoint_is_one_line(
    stem: Path, scale: int, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = build("mdsr", config={"blocks": 2, "features": 8, f"x{scale}": 0})
    rest = tuple(other for other in SCALES if other != scale)
    checkpoint.save(tmp_path / "m.safetensors", module, card_of(module, scales=rest, default_scale=rest[0]))
    assert run_gate([graph(stem, "fp32")], tmp_path / "m.safetensors", photos, tmp_path) == 2
    served = ", ".join(map(str, rest))
    assert f"MDSR: scale {scale} is not served; this network serves {served}; name the checkpoint" in capsys.readouterr().err


def test_a_checkpoint_and_its_graphs_measure_alike(stem: Path, network: Path, photos: Path, scale: int, tmp_path: Path) -> None:
    models = [str(network), str(graph(stem, "fp32"))]
    options = ["--data", str(photos), "--threads", "1", "--json", str(tmp_path / "e.json"), "--scale", str(scale)]
    for more in ([], ["--ensemble"]):
        assert evaluate([*models, *options, *more]) == 0
        first, second = json.loads((tmp_path / "e.json").read_text())["results"]
        # A picture thinner than a tile is extended to it by its last row, the checkpoint sees zeros there.
        assert first["scale"] == scale and first["psnr_db"] == pytest.approx(second["psnr_db"], abs=0.2)


def test_the_checkpoint_is_measured_at_each_scale(network: Path, photos: Path, tmp_path: Path) -> None:
    scales = list(map(str, SCALES))
    assert evaluate([str(network), "--data", str(photos), "--json", str(tmp_path / "e.json"), "--scale", *scales]) == 0
    assert [row["scale"] for row in json.loads((tmp_path / "e.json").read_text())["results"]] == [2, 3, 4]
    assert evaluate([str(network), "--data", str(photos), "--scale", "5"]) == 2


def test_pictures_are_enlarged_by_it(stem: Path, scale: int, tmp_path: Path) -> None:
    Image.effect_noise((53, 41), 60).convert("RGB").save(tmp_path / "a.png")
    assert infer([str(tmp_path / "a.png"), "--engine", str(graph(stem, "int8")), "--threads", "1"]) == 0
    with Image.open(tmp_path / f"a_x{scale}.png") as found:
        assert found.size == (53 * scale, 41 * scale)


def test_a_pruned_one_goes_through_too(network: Path, photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "mdsr_pruned.safetensors"
    assert (
        prune(
            [
                str(network),
                "-o",
                str(small),
                *SHAPE,
                "--pruner",
                "native",
                "--device",
                "cpu",
                "--val",
                str(photos),
                "--reconstruct",
                "0",
            ]
        )
        == 0
    )
    options = [*SHAPE, "--calib", str(photos), "--threads", "1", "--scale", "3"]
    assert export([str(small), "-o", str(tmp_path), *options]) == 0
    engines = [tmp_path / f"mdsr_pruned_x3_{precision}.onnx" for precision in ("fp32", "fp16", "int8")]
    assert {node.op_type for node in onnx.load(engines[0]).graph.node} == {"Conv", "Relu", "Add", "DepthToSpace"}
    card = read_card(engines[2])
    assert set(card.widths[:-2]) == {4} and card.widths[-2:] == (36, 1) and card.scales == (3,)
    assert run_gate(engines, small, photos, tmp_path) == 0
    Image.effect_noise((53, 41), 60).save(tmp_path / "a.png")
    assert infer([str(tmp_path / "a.png"), "--engine", str(engines[2]), "--threads", "1"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", "5"], "--scale 5: "),
        (["--scale", "3", "--shape", "1", "1", "32", "32"], "not larger than twice the halo of 16 pixels; 33 is the least"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert export([str(network), "-o", str(tmp_path), *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]

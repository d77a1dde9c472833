"""The export of a checkpoint that learned its thresholds, and that it computes what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from sr_deploy.card import card_from_json
from sr_deploy.compress.qat.fake_quantization import FakeQuantizedConv2d, fake_quantize, integers_of, rounded_up, weight_scale
from sr_deploy.compress.qat.placement import placement
from sr_deploy.export.command import main
from sr_deploy.export.graphs.quantize import kept_by_default, quantize, quantize_weight, round_up
from sr_deploy.export.graphs.reading import OUTPUT_KEY, convolution_nodes, residual_outputs
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.train.networks.registry import build, card_of, convolutions
from sr_deploy.train.weights import checkpoint
from tests.helpers.graphs import outputs

Floats = NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[3]
THRESHOLDS = {"conv2": 0.7531, "conv3": 0.4999, "conv4": 0.2}
KEEP = ("conv1", "conv4")


def photograph(side: int) -> Floats:
    """Return a part of a photograph for calibration: float32 (1, 1, side, side) in [0, 1]."""
    from sr_deploy.planes import read_measured

    plane = read_measured(ROOT / "calib_data" / "calibrate" / "chelsea.png", "y")
    return np.ascontiguousarray(plane[100 : 100 + side, 120 : 120 + side][None, None] / np.float32(255.0))


@pytest.fixture(scope="module")
def learned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of the small network as if it had learned thresholds, of x2 and x3 together."""
    network, card = checkpoint.load(tiny)
    path = tmp_path_factory.mktemp("learned") / "learned.safetensors"
    checkpoint.save(path, network, card.with_changes(thresholds=THRESHOLDS, keep=KEEP, recipe={"data.scales": "2 3"}))
    return path


def export(path: Path, folder: Path, photos: Path | None, *more: str) -> int:
    calib = [] if photos is None else ["--calib", str(photos)]
    return main(
        [str(path), "-o", str(folder), "--precision", "int8", "--shape", "1", "1", "32", "32", "--threads", "1", *calib, *more]
    )


def scales_in(path: Path) -> dict[str, float]:
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {name: float(value) for name, value in tensors.items() if name.endswith(".scale") and value.shape == ()}


def test_the_graph_has_the_learned_thresholds(
    learned: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(learned, tmp_path, photos) == 0
    path = tmp_path / "learned_int8.onnx"
    expected = {float(round_up(np.array(value / 127))) for value in THRESHOLDS.values()}
    assert set(scales_in(path).values()) == expected
    card = read_card(path)
    assert [name for name, precision in card.layers.items() if precision == "fp32"] == list(KEEP)
    assert (card.calibration, card.calibrated_scale, card.keep) == ("qat", None, ())
    assert card.thresholds.keys() == THRESHOLDS.keys()
    written = json.loads((tmp_path / "learned_int8.thresholds.json").read_text("utf-8"))
    assert written["thresholds"] == THRESHOLDS and written["digest"] == card.thresholds_digest
    assert written["data"] == checkpoint.read_card(learned).digest
    shown = capsys.readouterr().out
    assert f"3 thresholds that {learned} learned; nothing is calibrated" in shown
    assert f"{learned}: its thresholds are learned, so --calib {photos} only checks the graphs; --method calibrates" in shown


def test_thresholds_of_one_scale_say_so(tiny: Path, photos: Path, tmp_path: Path) -> None:
    network, card = checkpoint.load(tiny)
    path = tmp_path / "one.safetensors"
    checkpoint.save(path, network, card.with_changes(thresholds=THRESHOLDS, keep=KEEP, recipe={"data.scales": "2"}))
    assert export(path, tmp_path, photos) == 0
    assert read_card(tmp_path / "one_int8.onnx").calibrated_scale == 2


def test_more_convolutions_can_be_kept(learned: Path, photos: Path, tmp_path: Path) -> None:
    assert export(learned, tmp_path, photos, "--keep", "conv3") == 0
    card = read_card(tmp_path / "learned_int8.onnx")
    assert [name for name, precision in card.layers.items() if precision == "int8"] == ["conv2"]
    assert len(scales_in(tmp_path / "learned_int8.onnx")) == 1


def test_a_method_calibrates_again_and_says_so(
    learned: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(learned, tmp_path, photos, "--method", "minmax") == 0
    assert f"{learned}: its learned thresholds are left out, --method minmax asks for others" in capsys.readouterr().out
    assert read_card(tmp_path / "learned_int8.onnx").calibration == "minmax"
    stored = tmp_path / "learned_int8.thresholds.json"
    assert export(learned, tmp_path, photos, "--thresholds", str(stored), "--method", "minmax") == 0
    assert export(learned, tmp_path, photos) == 0  # what stands in the folder is not taken for what was learned
    assert read_card(tmp_path / "learned_int8.onnx").calibration == "qat"


def test_all_layers_is_refused(learned: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(learned, tmp_path, photos, "--all-layers") == 2
    message = f"sr-export: --all-layers: {learned} was trained with conv1, conv4 in float; leave it out, or calibrate again"
    assert capsys.readouterr().err.startswith(message)


def test_the_first_integers_are_equal_and_the_output_agrees(tiny: Path) -> None:
    network, _ = checkpoint.load(tiny)
    tile = photograph(96)
    seen: dict[str, torch.Tensor] = {}
    rounded = fake_quantize(network, THRESHOLDS, KEEP)
    conv = convolutions(rounded)["conv2"]
    assert isinstance(conv, FakeQuantizedConv2d) and conv.source is not None
    conv.source.register_forward_pre_hook(lambda _m, inputs: seen.update(x=inputs[0]))
    with torch.no_grad():
        expected = rounded(torch.from_numpy(tile)).numpy()
    model = quantize(graph_from_network(network, (1, 1, 96, 96)), THRESHOLDS, keep=set(KEEP))
    names = {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    first = next(n for n in model.graph.node if names["conv2"] in n.output).input[0]
    output, integers = outputs(model, tile, (first,))
    scale = rounded_up(torch.tensor(THRESHOLDS["conv2"] / 127, dtype=torch.float64))
    # conv1 computes in float in both: a value on the edge between two integers may fall to either side
    assert np.mean(integers_of(seen["x"], scale, -128).numpy() != integers) < 1e-4
    assert np.abs(expected - output).mean() * 255 < 0.05


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("vdsr", {"colors": 3}),
        ("plain", {"scale": 2}),
        ("plain", {"scale": 3, "colors": 3, "prelu": 1}),
        ("edsr", {"scale": 2}),
        ("edsr", {"scale": 4, "res_scale": 0.1, "colors": 3}),
        ("mdsr", {"x4": 0}),
        ("srresnet", {"scale": 4}),
        ("srresnet", {"scale": 2, "norm": 0, "end_act": 1, "tanh": 1}),
        ("msrresnet", {"scale": 2}),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_every_network_computes_what_its_graph_computes(arch: str, config: dict[str, float], named: bool) -> None:
    torch.manual_seed(0)
    widths = (8, 8, 8, 3) if arch == "vdsr" else None
    network = build(arch, widths, {"blocks": 2, "features": 8, **config}).eval().folded()
    more = [list(convolutions(network))[2]] if named else []
    where = placement(network, more)
    colors = int(config.get("colors", 1))
    tile = np.repeat(photograph(32), colors, axis=1)
    for one in network.at_each_scale():
        model = graph_from_network(one, (1, colors, 32, 32))
        names = {node.name for node in convolution_nodes(model)}
        values = ranges(one, tile, {*names, *(f"{name}{OUTPUT_KEY}" for name in residual_outputs(model))})
        exported = {name: value for name, value in values.items() if name.removesuffix(OUTPUT_KEY) not in more}
        graph = quantize(model, exported, keep=kept_by_default(model) | (set(more) & names))
        ours = {name: values[name] for name in where.pairs if name.removesuffix(OUTPUT_KEY) in names}
        with torch.no_grad():
            found = fake_quantize(one, ours, [name for name in where.keep if name in names])(torch.from_numpy(tile)).numpy()
            plain = one(torch.from_numpy(tile)).numpy()
        difference = np.abs(found - np.asarray(outputs(graph, tile)[0], np.float32)).mean()
        loss = np.abs(found - plain).mean()
        # sums in another order move single values by one integer; a pair that is missing or too many shifts all of them
        assert difference < 0.1 * loss and loss > 0


def ranges(network: nn.Module, tile: Floats, names: set[str]) -> dict[str, float]:
    """Return the largest magnitude at each place, a little clipped."""
    found: dict[str, float] = {}
    hooks = []
    for name, conv in convolutions(network).items():
        hooks.append(conv.register_forward_pre_hook(lambda _m, x, name=name: found.update({name: float(x[0].abs().max())})))
        key = f"{name}{OUTPUT_KEY}"
        hooks.append(conv.register_forward_hook(lambda _m, _i, y, key=key: found.update({key: float(y.abs().max())})))
    with torch.no_grad():
        network(torch.from_numpy(tile))
    for hook in hooks:
        hook.remove()
    return {name: 0.9 * value for name, value in found.items() if name in names}


def test_weights_and_scales_are_those_the_export_stores() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 8, 3, 3, generator=generator) * torch.logspace(-9, 4, 64).reshape(-1, 1, 1, 1)
    integers, scale = quantize_weight(weight.numpy())
    assert np.array_equal(weight_scale(weight).flatten().numpy(), scale)
    assert np.array_equal(integers_of(weight, weight_scale(weight), -127).numpy(), integers.astype(np.float32))
    many = torch.logspace(-12, 6, 5001, dtype=torch.float64)
    assert np.array_equal(rounded_up(many).numpy(), round_up(many.numpy()))


def test_an_mdsr_takes_the_thresholds_of_one_scale(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("mdsr", None, {"blocks": 1, "features": 8, "x4": 0})
    where = placement(network)
    card = card_of(network, scales=(2, 3), default_scale=2).with_changes(
        thresholds=dict.fromkeys(where.pairs, 1.0), keep=where.keep
    )
    path = tmp_path / "mdsr.safetensors"
    checkpoint.save(path, network, card)
    assert export(path, tmp_path, photos, "--scale", "3", "--shape", "1", "1", "64", "64") == 0
    written = json.loads((tmp_path / "mdsr_x3_int8.thresholds.json").read_text("utf-8"))["thresholds"]
    assert "up.x3.0" in written and "up.x2.0" not in written


def test_a_card_of_another_version_keeps_what_it_knows(learned: Path) -> None:
    card = checkpoint.read_card(learned)
    assert card_from_json(card.to_json(), source="a card").thresholds == THRESHOLDS

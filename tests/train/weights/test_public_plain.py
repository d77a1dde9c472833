"""ETDS, ECBSR, ABPN and SRVGGNetCompact: loaded as they are, they compute what their papers' networks compute.

The reference modules follow the published structure: names of the parts, order of operations, value ranges.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import InputError
from sr_deploy.gate.eval.command import main as evaluate
from sr_deploy.train.networks.plain import Plain
from sr_deploy.train.networks.registry import build, weight_count, widths_of
from sr_deploy.train.weights import checkpoint
from tests.conftest import Outside
from tests.helpers.networks import kept_at
from tests.helpers.others import saved

SAME = 1e-5  # of 1; sums of float32 in another order, and 1 - (1 - y) for y


def conv(n_in: int, n_out: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution with weights of a size that keeps a signal alive through several layers."""
    layer = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=(1.5 / (n_in * kernel**2)) ** 0.5)
    return layer


def prelu(width: int) -> nn.PReLU:
    """Return a PReLU whose slopes differ, some of them negative."""
    layer = nn.PReLU(width)
    nn.init.uniform_(layer.weight, -0.3, 0.6)
    return layer


def clip(outputs: int) -> nn.Conv2d:
    """Return the 1x1 convolution that clips behind a layer of 1 - y and ReLU (equation 12 of ETDS)."""
    layer = nn.Conv2d(outputs, outputs, 1)
    nn.init.dirac_(layer.weight)
    layer.weight.data.neg_()
    nn.init.ones_(layer.bias)  # type: ignore[arg-type]
    return layer


def last(n_in: int, n_out: int) -> nn.Conv2d:
    """Return a convolution that makes 1 - y of a y around a half, beyond [0, 1] on both sides."""
    layer = conv(n_in, n_out)
    layer.weight.data.mul_(3.0)
    nn.init.constant_(layer.bias, 0.5)  # type: ignore[arg-type]
    return layer


def shuffled(x: Tensor, scale: int, colors: int) -> Tensor:
    return nn.functional.pixel_shuffle(x[:, : colors * scale**2], scale)


class Etds(nn.Module):
    """ETDS in its form for inference (Chao et al., CVPR 2023)."""

    def __init__(self, scale: int, *, colors: int = 3, width: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.scale, self.colors = scale, colors
        outputs = colors * scale**2 + (scale == 3)
        self.conv_first = conv(colors, width)
        self.backbone_convs = nn.ModuleList(conv(width, width) for _ in range(blocks))
        self.conv_last, self.conv_clip = last(width, outputs), clip(outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv_first, *self.backbone_convs, self.conv_last, self.conv_clip):
            x = torch.relu(layer(x))
        return shuffled(x, self.scale, self.colors)


class Ecbsr(nn.Module):
    """ECBSR with its blocks multiplied out (Zhang et al., ACM MM 2021); ``clips``: after ETDS's transformation."""

    def __init__(self, scale: int, *, colors: int = 3, width: int = 8, blocks: int = 2, clips: bool = False) -> None:
        super().__init__()
        self.scale, self.colors, self.clips = scale, colors, clips
        outputs = colors * scale**2 + (clips and scale == 3)
        inner = [nn.Sequential(conv(width, width), prelu(width)) for _ in range(blocks)]
        tail = [nn.Sequential(last(width, outputs), nn.ReLU()), nn.Sequential(clip(outputs), nn.ReLU())]
        end = tail if clips else [nn.Sequential(conv(width, outputs))]
        self.backbone = nn.Sequential(nn.Sequential(conv(colors, width), prelu(width)), *inner, *end)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.backbone(x)
        return shuffled(out if self.clips else out + repeated(x, self.scale), self.scale, self.colors)


class Abpn(nn.Module):
    """ABPN (Du et al., CVPRW 2021); ``clips``: after ETDS's transformation."""

    def __init__(self, scale: int, *, width: int = 8, blocks: int = 2, clips: bool = False) -> None:
        super().__init__()
        self.scale, self.clips = scale, clips
        outputs = 3 * scale**2 + (clips and scale == 3)
        middle = outputs + 4 if clips else outputs
        inner = [nn.Sequential(conv(width, width), nn.ReLU()) for _ in range(blocks)]
        end = [last(middle, outputs), nn.ReLU(), clip(outputs), nn.ReLU()] if clips else [conv(middle, outputs)]
        self.backbone = nn.Sequential(conv(3, width), nn.ReLU(), *inner, conv(width, middle), nn.ReLU(), *end)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.backbone(x)
        return shuffled(out if self.clips else out + repeated(x, self.scale), self.scale, 3)


class Compact(nn.Module):
    """SRVGGNetCompact of Real-ESRGAN with PReLU."""

    def __init__(self, scale: int, *, colors: int = 3, width: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.scale, self.colors = scale, colors
        inner = [part for _ in range(blocks) for part in (conv(width, width), prelu(width))]
        self.body = nn.ModuleList([conv(colors, width), prelu(width), *inner, conv(width, colors * scale**2)])

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for part in self.body:
            out = part(out)
        return shuffled(out, self.scale, self.colors) + nn.functional.interpolate(x, scale_factor=self.scale, mode="nearest")


def repeated(x: Tensor, scale: int) -> Tensor:
    return x.repeat_interleave(scale**2, dim=1)


Make = Callable[[int], nn.Module]
FAMILIES: dict[str, tuple[str, Make]] = {
    "etds": ("ECNUSR ETDS", Etds),
    "etds, luma": ("ECNUSR ETDS", lambda scale: Etds(scale, colors=1, width=5, blocks=1)),
    "ecbsr": ("ECNUSR ECBSR", Ecbsr),
    "ecbsr, luma": ("ECNUSR ECBSR", lambda scale: Ecbsr(scale, colors=1, width=6, blocks=4)),
    "ecbsr, clipped": ("ECNUSR ECBSR", lambda scale: Ecbsr(scale, clips=True)),
    "abpn": ("ECNUSR ABPN", Abpn),
    "abpn, clipped": ("ECNUSR ABPN", lambda scale: Abpn(scale, width=11, blocks=3, clips=True)),
    "compact": ("SRVGGNetCompact", Compact),
    "compact, luma": ("SRVGGNetCompact", lambda scale: Compact(scale, colors=1, blocks=5)),
}
every_family = pytest.mark.parametrize(("family", "make"), FAMILIES.values(), ids=FAMILIES)


@pytest.fixture(scope="module")
def weights(outside: Outside) -> Path:
    """The public weights; a test that wants them is skipped where they are missing."""
    return outside("../weights")


def loaded(module: nn.Module, path: Path) -> Plain:
    network = checkpoint.load(saved(module.state_dict(), path))[0]
    assert isinstance(network, Plain)
    return network


def graph_apart(network: Plain) -> float:
    """Return the largest difference between a network and its fp32 graph in ONNX Runtime."""
    pytest.importorskip("onnx")
    from sr_deploy.export.graphs.reading import halo as halo_of_graph
    from sr_deploy.export.graphs.to_onnx import graph_from_network
    from sr_deploy.runtime.backends.onnx_engine import open_session

    x = torch.rand(1, network.config.colors, 24, 20)
    model = graph_from_network(network, (1, network.config.colors, 24, 20))
    assert halo_of_graph(model) == network.halo()
    session = open_session(model.SerializeToString(), ["CPUExecutionProvider"], 1)
    with torch.no_grad():
        return float(np.abs(np.asarray(session.run(None, {"input": x.numpy()})[0]) - network(x).numpy()).max())


@pytest.mark.parametrize("scale", [2, 3, 4])
@every_family
def test_it_computes_the_same(family: str, make: Make, scale: int, tmp_path: Path) -> None:
    theirs = make(scale).eval()
    ours, card = checkpoint.load(saved(theirs.state_dict(), tmp_path / "a.pth"))
    assert isinstance(ours, Plain)
    x = torch.rand(2, ours.config.colors, 13, 17)
    with torch.no_grad():
        found, expected = ours(x), theirs(x)
    assert float(expected.std()) > 0.1  # else any two networks would agree
    if ours.config.clip:
        assert int((expected == 0.0).sum()) > 20 and int((expected == 1.0).sum()) > 20  # so what is clipped is compared too
    assert found.shape == expected.shape and float((found - expected).abs().max()) < SAME
    assert (card.arch, card.color, card.scales) == ("plain", {1: "y", 3: "rgb"}[ours.config.colors], (scale,))
    assert card.recipe["source"] == f"weights of {family}" and card.digest == card.recipe["source.digest"]


@every_family
def test_its_card_builds_it_again(family: str, make: Make, tmp_path: Path) -> None:
    network, card = checkpoint.load(saved(make(3).state_dict(), tmp_path / "a.pth"))
    checkpoint.save(tmp_path / "own.safetensors", network, card)
    again, own = checkpoint.load(tmp_path / "own.safetensors")
    x = torch.rand(1, int(card.config["colors"]), 9, 9)
    with torch.no_grad():
        assert torch.equal(again(x), network(x)) and own.widths == card.widths == widths_of(again)
    assert own.config == network.facts


def test_a_card_without_the_new_entries_adds_the_picture_and_does_not_clip() -> None:
    network, x = build("plain", (4, 12), {"scale": 2, "colors": 3, "prelu": 0}), 3.0 * torch.rand(1, 3, 5, 5)
    assert isinstance(network, Plain) and (network.config.residual, network.config.clip) == (1, 0)
    nn.init.zeros_(network.tail.weight)
    assert torch.equal(network(x), nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))


@every_family
def test_its_graph_computes_the_same(family: str, make: Make, tmp_path: Path) -> None:
    assert graph_apart(loaded(make(2), tmp_path / "a.pth")) < SAME


@every_family
def test_its_graph_takes_any_number_of_tiles(family: str, make: Make, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from sr_deploy.export.graphs.to_onnx import graph_from_network
    from sr_deploy.export.plans.graph import with_batch
    from sr_deploy.runtime.backends.onnx_engine import open_session

    network = loaded(make(2), tmp_path / "a.pth")
    model = with_batch(graph_from_network(network, (1, network.config.colors, 12, 12)), None)
    x = torch.rand(3, network.config.colors, 12, 12)
    session = open_session(model.SerializeToString(), ["CPUExecutionProvider"], 1)
    with torch.no_grad():
        assert np.allclose(np.asarray(session.run(None, {"input": x.numpy()})[0]), network(x).numpy(), atol=SAME)


@every_family
def test_the_halo_is_what_reaches_an_output_pixel(family: str, make: Make, tmp_path: Path) -> None:
    network, side = loaded(make(2), tmp_path / "a.pth").double(), 25
    x = 0.5 * torch.ones(1, network.config.colors, side, side, dtype=torch.float64)
    for layer in network.modules():  # nothing is cut off on its way
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.5 / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    changed = x.clone()
    changed[0, :, side // 2, side // 2] += 0.1
    with torch.no_grad():
        moved = ((network(changed) - network(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    assert side // 2 - int(moved.min()) // 2 == int(moved.max()) // 2 - side // 2 == network.halo()


@every_family
def test_pruned_and_masked_compute_the_same(family: str, make: Make, tmp_path: Path) -> None:
    network = loaded(make(2), tmp_path / "a.pth")
    masks = native_masks(network, kept_at(network, 0.5))
    small = without_filters(network, masks)
    assert check_equal(mask_filters(network, masks), small, torch.rand(1, network.config.colors, 17, 21)) <= SAME
    assert weight_count(small) < 0.6 * weight_count(network) and widths_of(small)[-1] == widths_of(network)[-1]
    if isinstance(small, Plain) and network.slopes is not None and small.slopes is not None:
        for name, ours, theirs in zip(masks, network.slopes, small.slopes, strict=True):
            assert isinstance(ours, nn.PReLU) and isinstance(theirs, nn.PReLU)
            assert torch.equal(theirs.weight, ours.weight[masks[name]]) and len(theirs.weight) < len(ours.weight)


def refused(state: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        checkpoint.load(saved(state, tmp_path / "a.pth"))
    assert "\n" not in str(caught.value) and str(tmp_path / "a.pth") in str(caught.value)


@pytest.mark.parametrize("scale", [2, 3])
@every_family
def test_every_missing_or_damaged_tensor_is_named(family: str, make: Make, scale: int, tmp_path: Path) -> None:
    state = make(scale).state_dict()
    for name, value in state.items():
        rest = {other: v for other, v in state.items() if other != name}
        refused(rest, rf"looks like {family}, but {name} is missing", tmp_path)
        more = torch.cat([value, value[:1]])
        refused({**state, name: more}, rf"looks like {family}, but {name} (is .* is|makes .* are) needed", tmp_path)
        refused({**state, name: value.sum()}, rf"looks like {family}, but {name} is one number, .* needed", tmp_path)
        refused({**state, name: value / 0.0}, rf"looks like {family}, but {name} holds NaN or infinity", tmp_path)


@every_family
def test_a_network_with_more_parts_is_another(family: str, make: Make, tmp_path: Path) -> None:
    state = make(2).state_dict()
    refused({**state, "attention.weight": torch.zeros(1)}, "of no known network", tmp_path)
    inner = next(name for name in state if ".2." in name or ".0." in name)
    more = inner.replace(".2.", ".999.").replace(".0.", ".999.")
    refused({**state, more: state[inner]}, rf"looks like {family}, but .*", tmp_path)
    refused({**state, more.replace("999", "9999999999"): state[inner]}, "holds the number 9999999999", tmp_path)


@every_family
def test_what_is_left_of_a_file_is_refused_in_one_line(family: str, make: Make, tmp_path: Path) -> None:
    state, draw = make(2).state_dict(), random.Random(0)
    for name in state:
        refused({name: state[name]}, r"looks like .*, but |of no known network", tmp_path)
    for _ in range(40):
        kept = {name: state[name] for name in draw.sample(sorted(state), draw.randrange(1, len(state)))}
        name = draw.choice(sorted(kept))
        kept[name] = draw.choice([kept[name][:0], kept[name].flatten(), kept[name][:, None], kept[name].sum(), kept[name]])
        refused(kept, r"looks like .*, but |of no known network", tmp_path)


def test_a_tensor_that_no_part_reads_is_named(tmp_path: Path) -> None:
    extra = {"backbone.1.0.weight": torch.zeros(8, 8, 3, 3)}
    refused({**Abpn(2).state_dict(), **extra}, r"backbone\.1\.0\.weight is one tensor too many", tmp_path)


@pytest.mark.parametrize(("part", "shift"), [("weight", 0.01), ("bias", -0.5)])
def test_a_last_layer_that_does_not_clip_is_refused(part: str, shift: float, tmp_path: Path) -> None:
    for network, name in ((Etds(3), "conv_clip"), (Ecbsr(2, clips=True), r"backbone.4.0"), (Abpn(4, clips=True), "backbone.8")):
        state = network.state_dict()
        state[f"{name}.{part}"] = state[f"{name}.{part}"] + shift
        refused(state, rf"{name}\.{part} does not clip: minus the identity and biases of 1", tmp_path)


def test_the_form_in_which_etds_is_trained_is_another(tmp_path: Path) -> None:
    state = {**Etds(2).state_dict(), "conv_residual_first.weight": torch.zeros(3, 3, 3, 3)}
    refused(state, r"of no known network; known: .*ECNUSR ETDS, ECNUSR ECBSR, ECNUSR ABPN, SRVGGNetCompact", tmp_path)


def test_channels_that_are_no_scale_are_refused(tmp_path: Path) -> None:
    compact = Compact(2)
    compact.body[-1] = conv(8, 15)
    refused(compact.state_dict(), r"body\.6\.weight makes 15 channels, 3 x scale x scale are needed", tmp_path)


@pytest.mark.slow
def test_a_file_goes_through_every_stage(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from sr_deploy.compress.command import main as prune
    from sr_deploy.export.command import main as export
    from sr_deploy.gate.command import main as gate
    from sr_deploy.runtime.infer.command import main as infer

    (tmp_path / "gates.toml").write_text(
        "[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90\nmax_weight_error_steps = 0\n"
        "[fp16]\nmin_agreement_db = 50\n[int8]\nmin_agreement_db = 25\nmax_weight_error_steps = 0.51\n"
    )
    checks = ["--data", str(photos), "--budget", str(tmp_path / "gates.toml"), "--threads", "1"]
    for name, network in (("etds", Etds(2)), ("compact", Compact(2))):
        path = saved({"params": network.state_dict()}, tmp_path / f"{name}.pth")
        assert evaluate([str(path), "--data", str(photos), "--threads", "1"]) == 0
        options = ["--shape", "1", "3", "40", "40", "--calib", str(photos), "--method", "minmax", "--threads", "1"]
        assert export([str(path), "-o", str(tmp_path), *options]) == 0
        engines = [str(tmp_path / f"{name}_{precision}.onnx") for precision in ("fp32", "fp16", "int8")]
        assert gate([*engines, "--reference", str(path), *checks]) == 0
        Image.effect_noise((47, 44), 60).convert("RGB").save(tmp_path / f"{name}.png")
        assert infer([str(tmp_path / f"{name}.png"), "--engine", engines[2], "--threads", "1"]) == 0
        with Image.open(tmp_path / f"{name}_x2.png") as found:
            assert found.size == (94, 88)
        small = tmp_path / f"{name}_small.safetensors"
        cut = ["--sparsity", "0.5", "--finetune-steps", "0", "--shape", "1", "3", "40", "40"]
        assert prune([str(path), "-o", str(small), *cut]) == 0
        pruned, card = checkpoint.load(small)
        assert isinstance(pruned, Plain) and graph_apart(pruned) < SAME
        assert card.recipe["parent.source"].startswith("weights of ") and widths_of(pruned)[:-1] == (4, 4, 4)


def test_the_graph_that_tensorrt_is_given_computes_the_same(photos: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from sr_deploy.export.command import main as export
    from sr_deploy.export.plans.graph import half_remainder, pairs_behind_relus, with_batch
    from sr_deploy.runtime.backends.onnx_engine import open_session

    for name, network in (("etds", Etds(2)), ("ecbsr", Ecbsr(2))):
        path = saved(network.state_dict(), tmp_path / f"{name}.pth")
        options = ["--shape", "1", "3", "40", "40", "--calib", str(photos), "--method", "minmax", "--threads", "1"]
        assert export([str(path), "-o", str(tmp_path), "--precision", "int8", *options]) == 0
        model = onnx.load(tmp_path / f"{name}_int8.onnx")
        given = with_batch(half_remainder(pairs_behind_relus(model)), None)
        x = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
        expected, found = (
            np.asarray(open_session(m.SerializeToString(), ["CPUExecutionProvider"], 1, exact=True).run(None, {"input": x})[0])
            for m in (model, given)
        )
        assert np.sqrt(np.mean(np.square(found - expected))) < 1e-2  # steps of float16, and flips of rounding


def figures(paths: Iterable[Path], outside: Outside, tmp_path: Path) -> list[float]:
    report = tmp_path / "e.json"
    assert evaluate([*map(str, paths), "--data", str(outside("set5")), "--threads", "1", "--json", str(report)]) == 0
    return [row["psnr_db"] for row in json.loads(report.read_text())["results"]]


def test_published_etds_scores_what_it_scores(weights: Path, outside: Outside, tmp_path: Path) -> None:
    paths = [weights / "etds" / f"ETDS_M6C32_x{scale}.pth" for scale in (2, 3, 4)]
    assert figures(paths, outside, tmp_path) == pytest.approx([37.565, 33.654, 31.422], abs=0.01)


def test_published_relatives_score_close_to_their_paper(weights: Path, outside: Outside, tmp_path: Path) -> None:
    paths = [weights / "etds" / f"{name}_x2.pth" for name in ("ETDS_M5C16", "ETDS_M4C32", "ECBSR_M4C32", "ABPN_M4C28")]
    # As ETDS's paper reports them; how its low-resolution pictures were made is not known to the last bit.
    assert figures(paths, outside, tmp_path) == pytest.approx([37.18, 37.38, 37.39, 37.36], abs=0.03)


def test_every_published_file_loads(weights: Path) -> None:
    for path in sorted((weights / "etds").glob("*.pth")):
        network, card = checkpoint.load(path)
        assert isinstance(network, Plain) and f"_x{card.default_scale}" in path.name
    network, card = checkpoint.load(weights / "community" / "realesr-animevideov3.pth")
    assert card.widths == (*(64,) * 17, 48) and card.scales == (4,) and card.recipe["source"] == "weights of SRVGGNetCompact"
    assert isinstance(network, Plain) and network.config.prelu and weight_count(network) == 621_424

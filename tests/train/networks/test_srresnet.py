"""SRResNet: its size, folding its norms, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import InputError
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.train.networks.registry import build, card_of, convolutions, weight_count, widths_of
from sr_deploy.train.networks.srresnet import SRResNet, SRResNetConfig, srresnet_widths
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import kept_at


@pytest.fixture(params=[2, 4, 8])
def trained(request: pytest.FixtureRequest) -> SRResNet:
    """Return a small network whose norms have seen data, so that folding them is no identity."""
    torch.manual_seed(0)
    network = SRResNet(SRResNetConfig(srresnet_widths(blocks=2, features=16, scale=request.param), request.param))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, 0.1 + 0.2 * float(torch.rand(())))
    network.train()
    for _ in range(5):
        network(torch.rand(4, 1, 16, 16))
    return network.eval()


def test_the_papers_network_has_one_and_a_half_million_weights() -> None:
    rgb = build("srresnet", config={"colors": 3})
    convs = sum(p.numel() for conv in convolutions(rgb).values() for p in conv.parameters())
    norms = sum(p.numel() for m in rgb.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    slopes = sum(1 for m in rgb.modules() if isinstance(m, nn.PReLU))
    assert convs == 9 * 9 * 3 * 64 + 64 + 33 * 9 * 64 * 64 + 2 * (9 * 64 * 256 + 256) + 9 * 9 * 64 * 3 + 3
    assert (norms, slopes) == (33 * 128, 1 + 16 + 2) and weight_count(rgb) == convs + norms + slopes


def test_folding_the_norms_changes_nothing(trained: SRResNet) -> None:
    x, plain = torch.rand(2, 1, 19, 23), trained.folded()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert plain.facts["norm"] == 0 and trained.facts["norm"] == 1
    with torch.no_grad():
        assert (plain(x) - trained(x)).abs().max() < 1e-5
        assert (plain(x) - build("srresnet", config={"blocks": 2, "features": 16, **plain.facts})(x)).abs().max() > 1e-3
    assert plain.folded() is plain


def test_the_halo_is_what_reaches_an_output_pixel(trained: SRResNet) -> None:
    network, scale, side = trained.double(), trained.config.scale, 29
    x = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, side // 2, side // 2] += 1.0
    with torch.no_grad():
        moved = ((network(changed) - network(x))[0, 0].abs() > 0).any(dim=0).nonzero().flatten()
    far = max(side // 2 - int(moved.min()) // scale, int(moved.max()) // scale - side // 2)
    assert far == network.halo()


def test_pruned_and_masked_compute_the_same(trained: SRResNet) -> None:
    plain = trained.folded()
    masks = native_masks(plain, kept_at(plain, 0.5))
    small = without_filters(plain, masks)
    assert check_equal(mask_filters(plain, masks), small, torch.rand(1, 1, 17, 21)) <= 1e-5
    assert weight_count(small) < 0.35 * weight_count(plain) and small.facts == plain.facts


def test_the_graph_has_no_norms(trained: SRResNet) -> None:
    pytest.importorskip("onnx")
    graph = graph_from_network(trained.folded(), (1, 1, 40, 40))
    assert {node.op_type for node in graph.graph.node} == {"Conv", "PRelu", "Add", "DepthToSpace"}


def test_a_checkpoint_holds_the_norms(trained: SRResNet, tmp_path: Path) -> None:
    scale = trained.config.scale
    checkpoint.save(tmp_path / "a.safetensors", trained, card_of(trained, scales=(scale,), default_scale=scale))
    found, card = checkpoint.load(tmp_path / "a.safetensors")
    x = torch.rand(1, 1, 12, 12)
    assert card.config == {"scale": scale, "colors": 1, "norm": 1, "end_act": 0, "tanh": 0}
    with torch.no_grad():
        assert torch.equal(found(x), trained(x))


def test_a_card_from_before_the_new_entries_builds_the_same_network(trained: SRResNet) -> None:
    config = {name: value for name, value in trained.facts.items() if name in ("scale", "colors", "norm")}
    older = build("srresnet", widths_of(trained), config)
    older.load_state_dict(trained.state_dict())
    x = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        assert torch.equal(older.eval()(x), trained(x))


@pytest.mark.parametrize("end_act", [0, 1])
def test_a_tanh_and_a_prelu_at_the_end_of_the_skip_are_folded_and_pruned_too(trained: SRResNet, end_act: int) -> None:
    config = {**trained.facts, "end_act": end_act, "tanh": 1}
    network = build("srresnet", widths_of(trained), config).eval()
    state = trained.state_dict()
    network.load_state_dict({**network.state_dict(), **{k: v for k, v in state.items() if k in network.state_dict()}})
    plain, x = network.folded(), torch.rand(1, 1, 13, 17)
    with torch.no_grad():
        assert (plain(x) - network(x)).abs().max() < 1e-5 and 0.0 <= float(network(x).min()) <= float(network(x).max()) <= 1.0
    masks = native_masks(plain, kept_at(plain, 0.5))
    assert check_equal(mask_filters(plain, masks), without_filters(plain, masks), x) <= 1e-5


def test_instance_normalisation_is_not_folded() -> None:
    network = build("srresnet", config={"blocks": 1, "features": 8, "norm": 2}).eval()
    with pytest.raises(InputError, match="takes mean and variance of the whole picture, so tiles could not be exact"):
        network.folded()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"scale": 3}, "scale 3 is not served; choose among 2, 4, 8"),
        ({"colors": 4}, "4 colours"),
        ({"norm": 3}, "norm 3 is not known"),
        ({"end_act": 2}, "end_act 2"),
        ({"tanh": 2}, "tanh 2"),
        ({"widths": (8, 8)}, "do not fit"),
        ({"widths": (8, 8, 9, 8, 32, 32, 1)}, "what is added to one stream must have one width"),
        ({"widths": (8, 8, 8, 8, 30, 32, 1)}, r"30 channels before PixelShuffle\(2\)"),
        ({"widths": (8, 8, 8, 8, 32, 32, 3)}, "the last 1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SRResNetConfig(**{"widths": srresnet_widths(blocks=1, features=8), **config})  # type: ignore[arg-type]

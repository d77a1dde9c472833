"""Pruning MDSR: one mask for the stream of all branches, and one for what every upsampler hands to the tail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sr_deploy.compress.command import main
from sr_deploy.compress.pruning.masks import filter_masks, native_masks, nni_installed
from sr_deploy.compress.pruning.removal import check_equal, mask_filters, without_filters
from sr_deploy.errors import CheckError, InputError
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, card_of, convolutions, macs, weight_count, widths_of
from sr_deploy.train.weights import checkpoint
from tests.helpers.networks import kept_at

SCALES = (2, 3, 4)
LAST = {"up.x2.0": 4, "up.x3.0": 9, "up.x4.1": 4}  # what ends in the tail, and the filters that make one of its inputs


def random_mdsr(seed: int = 0, **config: float) -> Network:
    torch.manual_seed(seed)
    network = build("mdsr", config={"blocks": 2, "features": 8, **config})
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def adds_to_the_stream(name: str) -> bool:
    return name in ("head", "body_end") or name.endswith("conv2")


def test_one_mask_for_the_stream_of_all_branches() -> None:
    network = random_mdsr()
    masks = native_masks(network, kept_at(network, 0.5))
    assert set(masks) == set(convolutions(network)) - {"tail"}
    stream = [name for name in masks if adds_to_the_stream(name)]
    assert len(stream) == 2 + 3 * 2 + 2 and all(torch.equal(masks[name], masks["head"]) for name in stream)
    assert all(int(mask.sum()) * 2 == len(mask) for mask in masks.values())


def test_one_mask_of_whole_groups_for_what_the_tail_reads() -> None:
    network = random_mdsr()
    masks = native_masks(network, kept_at(network, 0.25))
    blocks = {name: masks[name].reshape(-1, block) for name, block in LAST.items()}
    assert all(bool((rows == rows[:, :1]).all()) and torch.equal(rows[:, 0], blocks["up.x2.0"][:, 0]) for rows in blocks.values())
    weights = {name: convolutions(network)[name].weight.detach() for name in LAST}
    norms = torch.stack([weights[name].abs().reshape(8, -1).sum(dim=1) for name in LAST]).mean(dim=0)
    assert norms.argsort()[:2].sort().values.tolist() == (~blocks["up.x2.0"][:, 0]).nonzero().flatten().tolist()
    rows = masks["up.x4.0"].reshape(-1, 4)  # read by the next convolution of its own branch alone
    assert bool((rows == rows[:, :1]).all()) and int(rows[:, 0].sum()) == 6


@pytest.mark.skipif(not nni_installed(), reason="NNI is not installed")
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.7])
@pytest.mark.parametrize("config", [{}, {"x3": 0}, {"x2": 0, "x3": 0}])
def test_masks_are_those_of_nni(sparsity: float, config: dict[str, float]) -> None:
    network = random_mdsr(seed=1, **config)
    chosen = kept_at(network, sparsity)
    theirs, ours = (filter_masks(network, chosen, backend=backend) for backend in ("nni", "native"))
    assert set(theirs) == set(ours) and all(torch.equal(theirs[name], ours[name]) for name in ours)


@pytest.mark.parametrize("sparsity", [0.25, 0.5])
@pytest.mark.parametrize("colors", [1, 3])
def test_the_smaller_network_computes_what_the_masked_one_computes_at_every_scale(sparsity: float, colors: int) -> None:
    network = random_mdsr(colors=colors)
    masks = native_masks(network, kept_at(network, sparsity))
    small, x = without_filters(network, masks), torch.rand(1, colors, 11, 13)
    assert weight_count(small) < weight_count(network) and widths_of(small)[-1] == colors
    assert check_equal(mask_filters(network, masks), small, x) <= 1e-5
    for scale in SCALES:
        with torch.no_grad():
            assert torch.allclose(mask_filters(network, masks).at_scale(scale)(x), small.at_scale(scale)(x), atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_a_difference_at_any_scale_is_seen(scale: int) -> None:
    network = random_mdsr()
    masks = native_masks(network, kept_at(network, 0.5))
    small = without_filters(network, masks)
    with torch.no_grad():
        bias = convolutions(small)[f"pre.x{scale}.1.conv2"].bias
        assert bias is not None
        bias.add_(0.1)
    with pytest.raises(CheckError, match="differs by"):
        check_equal(mask_filters(network, masks), small, torch.rand(1, 1, 11, 13))


def masks_of(network: Network, **changed: Tensor) -> dict[str, Tensor]:
    return {**native_masks(network, kept_at(network, 0.5)), **{n.replace("_", "."): mask for n, mask in changed.items()}}


def test_another_mask_at_one_scale_is_refused() -> None:
    network = random_mdsr()
    other = torch.tensor([True, False] * 4)
    with pytest.raises(InputError, match=r"up.x2.0, up.x3.0, up.x4.1: share their channels and need one mask"):
        without_filters(network, masks_of(network, up_x3_0=other.repeat_interleave(9)))
    with pytest.raises(InputError, match=r"up.x3.0: 9 filters make one channel .* give granularity \[9"):
        without_filters(network, masks_of(network, up_x3_0=other.repeat(9)))
    with pytest.raises(InputError, match=r"head, pre.x2.0.conv2, .*: share their channels and need one mask"):
        without_filters(network, masks_of(network, pre_x4_1_conv2=torch.tensor([True, False] * 4)))


def test_sr_prune_halves_it_and_says_at_which_scale_it_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = random_mdsr()
    dense, output = tmp_path / "mdsr.safetensors", tmp_path / "small.safetensors"
    checkpoint.save(dense, network, card_of(network, scales=SCALES, default_scale=3))
    options = [
        "--reconstruct",
        "0",
        "--shape",
        "1",
        "1",
        "32",
        "32",
        "--pruner",
        "native",
        "--device",
        "cpu",
        "--json",
        str(tmp_path / "t.json"),
    ]
    assert main([str(dense), "-o", str(output), *options]) == 0
    small, card = checkpoint.load(output)
    assert card.widths == widths_of(small) and card.scales == SCALES and card.config["x3"] == 1
    assert [widths_of(one)[-2:] for one in small.at_each_scale()] == [(16, 1), (36, 1), (16, 1)]
    assert "GMAC at 1x1x32x32, x3" in capsys.readouterr().out
    found = json.loads((tmp_path / "t.json").read_text())
    expected = [macs(module.at_scale(3), (1, 1, 32, 32)) for module in (network, small)]
    assert found["macs_scale"] == 3 and [row["macs"] for row in found["results"]] == expected


def test_one_scale_of_several_can_be_tuned(tmp_path: Path) -> None:
    network = random_mdsr()
    checkpoint.save(tmp_path / "m.safetensors", network, card_of(network, scales=SCALES, default_scale=2))
    data = Path(__file__).resolve().parents[3] / "calib_data" / "calibrate"
    options = [
        "--data",
        str(data),
        "--finetune-steps",
        "1",
        "--batch-size",
        "1",
        "--patch",
        "16",
        "--scale",
        "3",
        "--threads",
        "1",
    ]
    assert main([str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "small.safetensors"), *options]) == 0
    tuned, card = checkpoint.load(tmp_path / "small.safetensors")
    assert card.scales == SCALES and card.recipe["data.scales"] == "3" and len(tuned.at_each_scale()) == 3

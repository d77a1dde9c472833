from __future__ import annotations

import pytest
import torch

from sr_deploy.compress.pruning.masks import native_masks
from sr_deploy.compress.pruning.reconstruction import reconstruct, reconstruct_
from sr_deploy.compress.pruning.removal import without_filters
from sr_deploy.compress.teaching.features import Survivors
from sr_deploy.train.loop.stepper import MicroBatch
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build, convolutions
from tests.helpers.networks import kept_at

TINY = {
    "vdsr": ((8, 8, 8, 1), {}),
    "plain": ((8, 8, 8, 4), {"scale": 2}),
    "plain with PReLU": ((8, 8, 8, 4), {"scale": 2, "prelu": 1}),
    "edsr": (None, {"blocks": 2, "features": 8, "scale": 2}),
    "srresnet": (None, {"blocks": 2, "features": 8, "scale": 2}),
    "mdsr": (None, {"blocks": 2, "features": 8}),
}


def network_of(name: str) -> Network:
    torch.manual_seed(0)
    widths, config = TINY[name]
    return build(name.split(maxsplit=1)[0], widths, config).folded().eval()


def batches_for(network: Network, *, seed: int = 0) -> list[MicroBatch]:
    generator = torch.Generator().manual_seed(seed)
    branches = len(network.at_each_scale())
    scales = (2, 3, 4) if branches > 1 else (None,)
    return [MicroBatch(torch.rand(4, 1, 16, 16, generator=generator), torch.empty(4, 1, 1, 1), scale) for scale in scales]


def halved(network: Network) -> tuple[Network, Survivors]:
    masks = native_masks(network, kept_at(network, 0.5))
    left = Survivors(network)
    left.remove_(masks)
    return without_filters(network, masks), left


def error(network: Network, dense: Network) -> float:
    with torch.no_grad():
        fresh = batches_for(dense, seed=1)
        return float(sum(((one.through(network) - one.through(dense)) ** 2).mean() for one in fresh))


@pytest.mark.parametrize("name", TINY)
def test_a_reconstructed_network_is_nearer_to_the_dense_one(name: str) -> None:
    dense = network_of(name)
    small, left = halved(dense)
    before = error(small, dense)
    reconstruct_(small, dense, left, batches_for(dense))
    assert error(small, dense) < 0.7 * before


def test_filters_that_repeat_others_are_made_up_for() -> None:
    dense = network_of("vdsr")
    with torch.no_grad():
        for conv in list(convolutions(dense).values())[:-1]:  # ReLU of half the value is half the ReLU
            conv.weight[4:] = 0.5 * conv.weight[:4]
    small, left = halved(dense)
    before = error(small, dense)
    reconstruct_(small, dense, left, batches_for(dense))
    assert error(small, dense) < 0.01 * before  # not 0: the ridge


def test_a_network_that_lost_nothing_computes_what_it_did() -> None:
    dense = network_of("edsr")
    small = without_filters(dense, {})
    reconstruct_(small, dense, Survivors(dense), batches_for(dense))
    assert error(small, dense) < 1e-9  # weights may move where the patches say nothing


def test_black_patches_leave_every_weight_as_it_is() -> None:
    dense = network_of("vdsr")
    small, left = halved(dense)
    kept = [part.detach().clone() for part in small.parameters()]
    reconstruct_(small, dense, left, [MicroBatch(torch.zeros(2, 1, 16, 16), torch.empty(2, 1, 1, 1))])
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(small.parameters(), kept, strict=True))


def test_a_reconstruction_that_is_no_better_is_left_out() -> None:
    dense = network_of("plain")
    small, left = halved(dense)
    fresh = batches_for(dense, seed=1)
    better = reconstruct(small, dense, left, batches_for(dense), fresh)
    assert better is not None and error(better, dense) < error(small, dense)
    few = [MicroBatch(torch.full((1, 1, 4, 4), 0.5), torch.empty(1, 1, 1, 1))]  # says nothing of pictures with detail
    assert reconstruct(better, dense, left, few, fresh) is None

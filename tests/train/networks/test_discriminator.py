"""SRGAN's discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sr_deploy.errors import InputError
from sr_deploy.train.networks.discriminator import Discriminator


def test_it_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = Discriminator(colors=3, patch=96)
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [c.stride[0] for c in convs] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 7  # none behind the first
    dense = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(d.in_features, d.out_features) for d in dense] == [(512 * 6 * 6, 1024), (1024, 1)]
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert not any(isinstance(m, (nn.MaxPool2d, nn.AvgPool2d, nn.Sigmoid)) for m in network.modules())


@pytest.mark.parametrize(("colors", "patch"), [(1, 32), (3, 48)])
def test_a_patch_gets_one_number(colors: int, patch: int) -> None:
    network = Discriminator(colors=colors, patch=patch, widths=(4,) * 8, dense=8)
    assert network(torch.rand(5, colors, patch, patch)).shape == (5, 1)


@pytest.mark.parametrize("patch", [8, 40, 100])
def test_a_patch_that_does_not_fit_is_refused(patch: int) -> None:
    with pytest.raises(InputError, match="multiples of 16; 96 is the paper's"):
        Discriminator(colors=1, patch=patch)

"""Networks of other projects beside ours: whether both compute the same, and whether our graph does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sr_deploy.train.networks.network import Network


class BasicBlock(nn.Module):
    """A residual block of BasicSR."""

    def __init__(self, width: int, res_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + out * self.res_scale


def saved(state: object, path: Path) -> Path:
    """Save ``state`` as PyTorch does and return ``path``."""
    torch.save(state, path)
    return path


def levels_apart(ours: nn.Module, theirs: nn.Module, value_range: float = 255.0, *, colors: int = 3) -> float:
    """Return the largest difference in levels of 255 on a picture of [0, 255] that is fed as each wants it."""
    picture = torch.randint(0, 256, (1, colors, 13, 17)).float()
    with torch.no_grad():
        found, expected = ours(picture / 255.0), theirs.eval()(picture * value_range / 255.0)
    assert float(expected.std()) > 0.01 * value_range  # else any two networks would agree
    return float((255.0 * found - expected * 255.0 / value_range).abs().max())


def graph_apart(network: Network, colors: int = 3) -> float:
    """Return the largest difference, of 255, between a network and its fp32 graph in ONNX Runtime."""
    pytest.importorskip("onnx")
    from sr_deploy.export.graphs.reading import halo
    from sr_deploy.export.graphs.to_onnx import graph_from_network
    from sr_deploy.runtime.backends.onnx_engine import open_session

    model = graph_from_network(network.folded(), (1, colors, 24, 20))
    assert halo(model) == network.halo()
    x = torch.rand(1, colors, 24, 20)
    session = open_session(model.SerializeToString(), ["CPUExecutionProvider"], 1)
    with torch.no_grad():
        return 255.0 * float(np.abs(np.asarray(session.run(None, {"input": x.numpy()})[0]) - network(x).numpy()).max())

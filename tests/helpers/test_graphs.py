from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch
from torch import nn

from sr_deploy.card import Shape
from sr_deploy.export.graphs.to_onnx import graph_from_network
from tests.helpers import graphs


class Scaled(nn.Module):
    """A convolution and a factor that is no weight."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * torch.as_tensor(self.conv(x))


def test_a_cached_graph_is_the_graph_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_MADE", {})
    first = graphs.cached_graph(Scaled(2.0), (1, 1, 8, 8))
    assert first == graph_from_network(Scaled(2.0), (1, 1, 8, 8))
    first.graph.node[0].name = "changed by a test"
    monkeypatch.setattr(graphs, "graph_from_network", None)
    assert graphs.cached_graph(Scaled(2.0), (1, 1, 8, 8)).graph.node[0].name == "conv"


def test_another_weight_attribute_or_shape_is_another_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Shape] = []

    def empty(network: nn.Module, shape: Shape) -> onnx.ModelProto:
        made.append(shape)
        return onnx.ModelProto()

    monkeypatch.setattr(graphs, "_MADE", {})
    monkeypatch.setattr(graphs, "graph_from_network", empty)
    other = Scaled(2.0)
    other.conv.weight.data[0, 0, 0, 0] += 1e-6
    for network, shape in (
        (Scaled(2.0), (1, 1, 8, 8)),
        (Scaled(3.0), (1, 1, 8, 8)),
        (other, (1, 1, 8, 8)),
        (other, (1, 1, 8, 9)),
    ):
        for _ in range(2):
            graphs.cached_graph(network, shape)
    assert len(made) == 4

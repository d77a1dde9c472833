"""A last convolution moved in front of its PixelShuffle: the same picture, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from torch import nn

from sr_deploy.export.graphs.narrow import before_shuffle, narrow_tail
from sr_deploy.export.graphs.reading import convolution_nodes
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.train.networks.registry import build


@pytest.mark.parametrize(("factor", "side", "wide"), [(2, 9, 5), (2, 3, 3), (2, 5, 3), (3, 9, 5), (4, 7, 3)])
def test_the_filters_do_in_front_of_the_shuffle_what_they_did_behind(factor: int, side: int, wide: int) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(3, 4, side, side), torch.randn(1, 4 * factor**2, 6, 7)
    behind = nn.functional.conv2d(nn.functional.pixel_shuffle(x, factor), weight, padding=side // 2)
    moved = torch.from_numpy(before_shuffle(weight.numpy(), factor))
    assert moved.shape == (3 * factor**2, 4 * factor**2, wide, wide)
    in_front = nn.functional.pixel_shuffle(nn.functional.conv2d(x, moved, padding=wide // 2), factor)
    assert torch.allclose(in_front, behind, atol=1e-3 * float(behind.std()))


@pytest.mark.parametrize("config", [{"colors": 3}, {"scale": 2, "tanh": 1}])
def test_the_graph_makes_the_same_picture(config: dict[str, float]) -> None:
    torch.manual_seed(0)
    network = build("srresnet", config={"blocks": 1, "features": 8, "norm": 0, **config}).eval()
    shape = (1, int(config.get("colors", 1)), 10, 12)
    model = graph_from_network(network, shape)
    narrow = narrow_tail(model)
    assert convolution_nodes(narrow)[-1].name == "narrow" and "tail" in {node.name for node in convolution_nodes(model)}
    x = np.random.default_rng(0).random(shape, np.float32)
    ours, theirs = (
        open_session(m.SerializeToString(), ["CPUExecutionProvider"], 1).run(None, {"input": x}) for m in (narrow, model)
    )
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)


def test_a_graph_without_such_an_end_is_left_as_it_is() -> None:
    for arch, config in (("edsr", {"blocks": 1, "features": 4}), ("plain", {"blocks": 1, "features": 4, "prelu": 1})):
        model = graph_from_network(build(arch, config=config).eval(), (1, 1, 8, 8))
        assert narrow_tail(model) is model

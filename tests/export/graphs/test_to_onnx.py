"""Graphs from networks: canonical, portable, and computing what PyTorch computes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
import torch

from sr_deploy.export.graphs.model import shapes_of
from sr_deploy.export.graphs.reading import convolution_nodes, halo, macs_by_convolution
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.planes import read_luma
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.train.networks.registry import build
from sr_deploy.train.weights import checkpoint

PICTURES = Path(__file__).resolve().parents[2] / "pictures"


@pytest.fixture(scope="module")
def network(tiny: Path) -> torch.nn.Module:
    """Return the small network."""
    return checkpoint.load(tiny)[0]


@pytest.fixture(scope="module")
def graph(network: torch.nn.Module) -> onnx.ModelProto:
    """Return its graph at 64x48."""
    return graph_from_network(network, (1, 1, 64, 48))


def test_graph_has_opset_17_and_ir_8(graph: onnx.ModelProto) -> None:
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 8


def test_graph_holds_no_metadata(graph: onnx.ModelProto) -> None:
    assert not graph.metadata_props and not graph.graph.metadata_props and not graph.doc_string and not graph.graph.doc_string
    assert all(not node.metadata_props and not node.doc_string for node in graph.graph.node)
    assert not graph.graph.value_info and not graph.functions
    assert b"/" not in graph.SerializeToString().replace(b"".join(t.raw_data for t in graph.graph.initializer), b"")[:64]


def test_convolutions_have_the_names_of_their_modules(graph: onnx.ModelProto) -> None:
    assert [node.name for node in convolution_nodes(graph)] == ["conv1", "conv2", "conv3", "conv4"]


def test_every_node_and_value_has_a_name_of_its_own(graph: onnx.ModelProto) -> None:
    names = [node.name for node in graph.graph.node]
    assert all(names) and len(set(names)) == len(names)
    assert [node.op_type for node in graph.graph.node].count("Relu") == 3


def test_shape_is_fixed(graph: onnx.ModelProto) -> None:
    assert shapes_of(graph) == ((1, 1, 64, 48), (1, 1, 64, 48))


def test_a_second_export_gives_equal_bytes(network: torch.nn.Module, graph: onnx.ModelProto) -> None:
    again = graph_from_network(network, (1, 1, 64, 48))
    assert again.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


def test_graph_computes_what_pytorch_computes(network: torch.nn.Module, graph: onnx.ModelProto) -> None:
    tile = read_luma(PICTURES / "coffee.png")[None, None, 100:164, 200:248] / np.float32(255.0)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.ascontiguousarray(tile))).numpy()
    session = open_session(graph.SerializeToString(), ["CPUExecutionProvider"], 1)
    # float32 sums in another order
    assert np.abs(session.run(None, {"input": tile})[0] - expected).max() < 1e-6


def test_vdsr_of_the_paper_has_halo_20_and_44_gmac() -> None:
    graph = graph_from_network(build("vdsr"), (1, 1, 256, 256))
    found = macs_by_convolution(graph)
    assert halo(graph) == 20
    assert sum(found.values()) == 256 * 256 * 664_704  # 43.56e9
    assert found["conv1"] == 256 * 256 * 9 * 64 and found["conv2"] == 256 * 256 * 9 * 64 * 64


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_convolutions_of_equal_weights_stay_two(value: float) -> None:
    network = build("vdsr", (4, 4, 4, 1))
    with torch.no_grad():
        for name in ("conv2", "conv3"):
            network.get_submodule(name).weight.fill_(value)  # type: ignore[operator]
    graph = graph_from_network(network, (1, 1, 16, 16))
    assert [node.name for node in convolution_nodes(graph)] == ["conv1", "conv2", "conv3", "conv4"]

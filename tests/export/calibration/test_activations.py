"""What flows through a graph, in one pass and in segments, against all of it at once."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx

from sr_deploy.errors import InputError
from sr_deploy.export.calibration import activations as module
from sr_deploy.export.calibration.activations import activations
from sr_deploy.export.graphs.model import INPUT
from sr_deploy.export.graphs.reading import convolution_nodes, residual_outputs
from sr_deploy.export.graphs.suffix import with_taps
from sr_deploy.export.graphs.to_onnx import graph_from_network
from sr_deploy.export.sessions import Sessions
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.thresholds import Counting
from sr_deploy.train.networks.edsr import EDSR, EDSRConfig, edsr_widths
from sr_deploy.train.networks.srresnet import SRResNet, SRResNetConfig, srresnet_widths


def graph(kind: str) -> onnx.ModelProto:
    """Return a small network with skips over one block and over all of them."""
    import torch

    torch.manual_seed(0)
    if kind == "edsr":
        network: torch.nn.Module = EDSR(EDSRConfig(edsr_widths(blocks=2, features=8, colors=3), colors=3))
    else:
        network = SRResNet(SRResNetConfig(srresnet_widths(blocks=2, features=8, scale=2, colors=3), scale=2, colors=3, norm=0))
    return graph_from_network(network.eval(), (1, 3, 24, 24))


def pictures(count: int = 5) -> list[Tiles]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0.0, 1.0, (1, 3, 24, 24)).astype(np.float32) for _ in range(count)]


def at_once(model: onnx.ModelProto, tiles: list[Tiles]) -> dict[str, list[Tiles]]:
    """Return every value of the graph for every tile."""
    names = [name for node in model.graph.node for name in node.output if name != model.graph.output[0].name]
    session = open_session(with_taps(model, names).SerializeToString(), ["CPUExecutionProvider"], 1)
    runs = [session.run(None, {INPUT: tile}) for tile in tiles]
    outputs = [model.graph.output[0].name, *names]
    return {INPUT: tiles} | {name: [run[i] for run in runs] for i, name in enumerate(outputs)}


@pytest.mark.parametrize("kind", ["edsr", "srresnet"])
@pytest.mark.parametrize("limit", [1, 20_000, 2**25])
def test_segments_see_what_the_whole_graph_shows(kind: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", limit)
    model, tiles = graph(kind), pictures()
    found, values = activations(model, tiles, Sessions(2)), at_once(model, tiles)
    inputs = {node.name: node.input[0] for node in convolution_nodes(model)}
    inputs |= {f"{name}.output": value for name, value in residual_outputs(model).items()}
    assert found.histograms.keys() == inputs.keys() and any(name.endswith(".output") for name in inputs)
    behind = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    assert found.maxima.keys() == values.keys()
    for name, seen in values.items():
        largest = max(float(np.abs(tile).max()) for tile in seen)
        if name in behind:  # what only a ReLU reads has the magnitude that is left behind it
            assert found.maxima[name] == found.maxima[behind[name]] <= largest * (1 + 1e-5)
        else:
            assert found.maxima[name] == pytest.approx(largest, rel=1e-5)  # float32 sums in another order
    for name, value in inputs.items():
        counting = Counting()
        for tile in values[value]:
            counting.add_(tile)
        difference = np.cumsum(found.histograms[name].counts - counting.histogram().counts)
        # a value at the edge of a bin may fall into the next
        assert difference[-1] == 0 and np.abs(difference).max() <= 2 + 1e-3 * sum(tile.size for tile in values[value])


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_order_threads_and_segments_change_no_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tiles = graph("edsr"), pictures()
    first = activations(model, tiles, Sessions(1))
    monkeypatch.setattr(module, "SEGMENT_BYTES", 20_000)
    again = activations(model, tiles[::-1], Sessions(threads))
    assert again.maxima == first.maxima
    for name, histogram in first.histograms.items():
        assert (
            np.array_equal(histogram.counts, again.histograms[name].counts)
            and histogram.maximum == again.histograms[name].maximum
        )


def test_memory_is_taken_once_and_used_for_every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 20_000)
    taken: list[int] = []
    original = module._Watch._buffer

    def buffer(watch: module._Watch, shape: tuple[int, ...]) -> Tiles:
        found = original(watch, shape)
        if shape:  # not the extremes
            taken.append(id(found))
        return found

    monkeypatch.setattr(module._Watch, "_buffer", buffer)
    activations(graph("edsr"), pictures(9), Sessions(1))
    assert len(set(taken[: len(taken) // 9 * 2])) == len(set(taken)) < len(taken) / 9 * 2


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_tile_that_is_no_number_is_named_and_every_thread_ends(threads: int) -> None:
    tiles, before = pictures(7), threading.active_count()
    tiles[3][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="is not a finite number on a calibration picture"):
        activations(graph("edsr"), tiles, Sessions(threads))
    assert threading.active_count() == before


def test_a_value_beyond_float32_is_named() -> None:
    model = graph("edsr")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full_like(onnx.numpy_helper.to_array(weight), 3e38), "head.weight"))
    with pytest.raises(InputError, match="is not a finite number on a calibration picture; the checkpoint is broken"):
        activations(model, pictures(), Sessions(2))

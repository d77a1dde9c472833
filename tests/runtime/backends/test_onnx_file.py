"""What is read of an .onnx file before a backend opens it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.card import seal
from sr_deploy.errors import InputError
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.backends.onnx_file import read_card, read_graph
from tests.runtime import tiny_onnx as tiny

SHAPE = (1, 1, 32, 32)
WEIGHTS = tiny.random_weights((2, 1))


def sealed_model(graph: bytes, *, extra: bytes = b"") -> bytes:
    return seal(tiny.model_of(graph, tiny.card_of(WEIGHTS, SHAPE).to_json(), extra=extra), source="test")


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_card(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_card_in_the_file_is_returned(random_file: Path) -> None:
    card = read_card(random_file)
    assert (card.arch, card.widths, card.halo, card.input_shape) == ("vdsr", (8, 8, 1), 3, (1, 1, 48, 64))


def test_reading_a_card_imports_neither_onnx_nor_onnxruntime(random_file: Path) -> None:
    code = (
        "import sys, pathlib; from sr_deploy.runtime.backends.onnx_file import read_card; read_card(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('onnx', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(random_file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_truncation_is_refused_in_one_line(tmp_path: Path) -> None:
    content = sealed_model(tiny.graph_of(WEIGHTS, SHAPE))
    for size in range(len(content)):
        refusal(tmp_path / "cut.onnx", content[:size])


def test_every_changed_byte_is_refused_in_one_line(tmp_path: Path) -> None:
    content = sealed_model(tiny.graph_of(WEIGHTS, SHAPE))
    rng = np.random.default_rng(0)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= int(rng.integers(1, 256))
        refusal(tmp_path / "changed.onnx", bytes(changed))


def test_several_changed_bytes_are_refused_in_one_line(tmp_path: Path) -> None:
    content = np.frombuffer(sealed_model(tiny.graph_of(WEIGHTS, SHAPE)), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(200):
        changed = content.copy()
        changed[rng.integers(0, len(content), 5)] ^= rng.integers(1, 256, 5).astype(np.uint8)
        if not np.array_equal(changed, content):
            refusal(tmp_path / "changed.onnx", changed.tobytes())


def test_a_changed_weight_is_recognised_by_the_digest(tmp_path: Path) -> None:
    content = sealed_model(tiny.graph_of(WEIGHTS, SHAPE))
    raw = WEIGHTS[0].tobytes()
    assert content.count(raw) == 1
    assert "changed after it was made" in refusal(tmp_path / "m.onnx", content.replace(raw, (-WEIGHTS[0]).tobytes()))


def test_an_appended_byte_is_recognised_by_the_digest(tmp_path: Path) -> None:
    assert "changed after it was made" in refusal(
        tmp_path / "m.onnx", sealed_model(tiny.graph_of(WEIGHTS, SHAPE)) + tiny.number(1, 8)
    )


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x89PNG\r\n\x1a\n" + bytes(64), b"\xff" * 64, b"just a text\n", b"{}"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "m.onnx" in refusal(tmp_path / "m.onnx", content)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for size in rng.integers(1, 400, 200):
        refusal(tmp_path / "m.onnx", rng.bytes(int(size)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_card(path)


def test_a_graph_without_card_is_refused(tmp_path: Path) -> None:
    assert "no model card" in refusal(tmp_path / "m.onnx", tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE), None))


def test_a_card_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    card = tiny.card_of(WEIGHTS, SHAPE).to_json().replace('"format":1', '"format":2')
    message = refusal(tmp_path / "m.onnx", seal(tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE), card), source="test"))
    assert "format 2, this version reads up to 1" in message


@pytest.mark.parametrize(
    "card",
    [
        "",
        "[]",
        "null",
        "7",
        '{"format":1}',
        '{"format":"1"}',
        '{"format":1,"arch":"vdsr","widths":3,"scales":[2],"default_scale":2}',
        '{"format":1,"arch":"vdsr","widths":["a"],"scales":[2],"default_scale":2}',
        '{"format":1,"arch":"vdsr","widths":[1],"scales":[2],"default_scale":2}',
        '{"format":1,"arch":"vdsr","widths":[1],"scales":[2],"default_scale":2,"digest":5}',
        '{"format":1,"arch":"vdsr","widths":[1],"scales":[2],"default_scale":2,"digest":null}',
        '{"format":1,"arch":"vdsr","widths":[1],"scales":[2],"default_scale":2,"digest":""}',
    ],
)
def test_a_card_made_by_hand_is_refused(tmp_path: Path, card: str) -> None:
    refusal(tmp_path / "m.onnx", tiny.model_of(tiny.graph_of(WEIGHTS, SHAPE), card))


def test_external_data_beside_the_model_is_allowed(tmp_path: Path) -> None:
    WEIGHTS[0].astype("<f4").tofile(tmp_path / "weights.bin")
    (tmp_path / "m.onnx").write_bytes(sealed_model(tiny.graph_of(WEIGHTS, SHAPE, external="weights.bin")))
    whole = tiny.write(tmp_path / "whole.onnx", WEIGHTS, SHAPE)
    tiles = np.random.default_rng(0).random(SHAPE, np.float32)
    assert np.array_equal(load(tmp_path / "m.onnx", threads=1).run(tiles), load(whole, threads=1).run(tiles))


@pytest.mark.parametrize(
    "location", ["../weights.bin", "sub/../../weights.bin", "/etc/hostname", "..", "link.bin", "folder/w.bin"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    WEIGHTS[0].astype("<f4").tofile(tmp_path / "weights.bin")
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "folder").symlink_to(tmp_path)
    message = refusal(folder / "m.onnx", sealed_model(tiny.graph_of(WEIGHTS, SHAPE, external=location)))
    assert "outside its folder; only files beside the model are read" in message


@pytest.mark.parametrize("location", ["a\0b", "loop.bin", "x" * 5000])
def test_external_data_at_an_impossible_place_is_no_traceback(tmp_path: Path, location: str) -> None:
    (tmp_path / "loop.bin").symlink_to("loop.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(sealed_model(tiny.graph_of(WEIGHTS, SHAPE, external=location)))
    with pytest.raises(InputError):
        load(path, threads=1)


def test_weights_come_in_their_own_shape(tmp_path: Path) -> None:
    found = read_graph(tiny.write(tmp_path / "m.onnx", WEIGHTS, SHAPE)).tensors
    assert list(found) == ["conv1.weight", "conv2.weight"]
    assert all(np.array_equal(value, w) and value.dtype == w.dtype for value, w in zip(found.values(), WEIGHTS, strict=True))


def test_weights_of_a_truncated_file_are_refused(tmp_path: Path) -> None:
    content = tiny.write(tmp_path / "m.onnx", WEIGHTS, SHAPE).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[:200])
    with pytest.raises(InputError, match="not an ONNX model"):
        read_graph(tmp_path / "cut.onnx")


def test_nodes_come_in_order_with_what_they_read_and_make(tmp_path: Path) -> None:
    graph = read_graph(tiny.write(tmp_path / "m.onnx", WEIGHTS, SHAPE))
    assert [node.kind for node in graph.nodes] == ["Conv", "Relu", "Conv", "Add"]
    assert graph.convolutions["conv2"].inputs == ("relu1", "conv2.weight")
    maker = graph.maker("relu1")
    assert maker is not None and maker.inputs == ("conv1.output",)
    assert graph.maker("input") is None


def outside_tensor() -> bytes:
    return tiny.tensor("outside", WEIGHTS[0], external="../weights.bin")


def constant_node() -> bytes:
    return tiny.node(
        "Constant", [], "c", [tiny.block(1, "value") + tiny.block(5, outside_tensor()) + tiny.number(20, tiny.TENSOR)]
    )


def test_external_data_in_an_attribute_is_seen(tmp_path: Path) -> None:
    graph = tiny.graph_of(WEIGHTS, SHAPE, extra=tiny.block(1, constant_node()))
    assert "outside its folder" in refusal(tmp_path / "m.onnx", sealed_model(graph))


def test_external_data_in_a_subgraph_is_seen(tmp_path: Path) -> None:
    inner = tiny.block(1, constant_node())
    branch = tiny.node("If", ["input"], "i", [tiny.block(1, "then_branch") + tiny.block(6, inner) + tiny.number(20, tiny.GRAPH)])
    graph = tiny.graph_of(WEIGHTS, SHAPE, extra=tiny.block(1, branch))
    assert "outside its folder" in refusal(tmp_path / "m.onnx", sealed_model(graph))


def test_external_data_in_a_sparse_initializer_is_seen(tmp_path: Path) -> None:
    graph = tiny.graph_of(WEIGHTS, SHAPE, extra=tiny.block(15, tiny.block(1, outside_tensor())))
    assert "outside its folder" in refusal(tmp_path / "m.onnx", sealed_model(graph))


def test_external_data_in_a_model_function_is_seen(tmp_path: Path) -> None:
    function = tiny.block(1, "f") + tiny.block(7, constant_node())
    content = sealed_model(tiny.graph_of(WEIGHTS, SHAPE), extra=tiny.block(25, function))
    assert "outside its folder" in refusal(tmp_path / "m.onnx", content)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", WEIGHTS, SHAPE)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read_card(path)

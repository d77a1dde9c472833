"""``sr-build`` on a machine that cannot build: one line that says what is missing and what works instead."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sr_deploy.export.plans.command import main
from tests.runtime import tiny_onnx as tiny


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a graph."""
    return tiny.write(tmp_path / "m_fp32.onnx", tiny.random_weights((4, 1)), (1, 1, 32, 32))


def test_what_is_missing_and_what_works_is_one_line(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    assert main([str(graph), "--no-timing-cache"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "TensorRT is not installed" in line and f"sr-infer --engine {graph} PICTURE" in line
    assert sorted(p.name for p in graph.parent.iterdir()) == ["m_fp32.onnx"]


@pytest.mark.parametrize("name", ["none.onnx", "m.plan", "m", "text.onnx"])
def test_what_is_no_graph_is_the_callers_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    assert main([str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line

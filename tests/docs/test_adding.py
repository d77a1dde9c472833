"""The pages "add a network" and "add a backend": what they tell one to write works, as it stands there."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from sr_deploy.compress.command import main as sr_prune
from sr_deploy.export.command import main as sr_export
from sr_deploy.runtime.backends.load import load
from sr_deploy.train.networks import registry
from sr_deploy.train.weights import checkpoint

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str) -> list[str]:
    """Return the blocks of Python in a page."""
    found: list[str] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return found


def copied(example: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module that a copy of ``example`` is, importable by ``name``."""
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)  # dataclasses look there
    exec(compile((ROOT / "examples" / example).read_text("utf-8"), name, "exec"), made.__dict__)
    return made


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy of the page, registered, pruned and exported as it says."""
    toy_from, line, _ = blocks("add_a_network.md")
    toy = copied("toy_network.py", "sr_deploy.train.networks.toy", monkeypatch)
    names = {**registry.__dict__, **{name: toy.__dict__[name] for name in ("Toy", "ToyConfig", "toy_widths")}}
    exec(f"{toy_from}\nADDED = {{\n{line}}}", names)
    for name, family in names["ADDED"].items():
        monkeypatch.setitem(registry.FAMILIES, name, family)
    network = registry.build("toy")
    checkpoint.save(tmp_path / "toy.safetensors", network, registry.card_of(network, scales=(2,), default_scale=2))
    assert sr_prune([str(tmp_path / "toy.safetensors"), "-o", str(tmp_path / "small.safetensors")]) == 0
    assert sr_export([str(tmp_path / "small.safetensors"), "-o", str(tmp_path), "--precision", "fp32"]) == 0
    return tmp_path / "small_fp32.onnx"


def test_a_network_and_a_backend_are_added_as_the_pages_say(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(load(graph)) as expected:
        assert (expected.card.arch, expected.card.widths) == ("toy", (8, 8, 4))
        tiles = np.random.default_rng(0).random((2, 1, 256, 256), np.float32)
        wanted = expected.run(tiles)
    (branch,) = blocks("add_a_backend.md")
    backend = copied("opencv_engine.py", "sr_deploy.runtime.backends.opencv_engine", monkeypatch)
    path = Path(shutil.copy(graph, graph.with_suffix(".cvnet")))
    loaded: dict[str, object] = {}
    exec("def chosen(path, suffix):\n" + branch, loaded)
    with closing(loaded["chosen"](path, ".cvnet")) as engine:  # type: ignore[operator]
        assert isinstance(engine, backend.OpenCVEngine)
        assert (engine.provider, engine.batches, engine.gpu) == ("OpenCV", (1,), None)
        np.testing.assert_allclose(engine.run(tiles), wanted, atol=1e-5)  # the same sums in another order
    with pytest.raises(backend.EngineError, match="closed"):
        engine.run(tiles)

"""Fixtures that every folder of tests shares; the run-time's tests use them where torch and onnx are not installed."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NEEDS = {"train": ("torch", "lightning"), "compress": ("torch", "lightning"), "export": ("torch", "onnx"), "tensorrt": ("onnx",)}

collect_ignore = [
    folder for folder, packages in NEEDS.items() if any(importlib.util.find_spec(package) is None for package in packages)
]

Outside = Callable[[str], Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let those who have the benchmark pictures say where."""
    about = "folder with set5/, set14/, kodak24/ and odd/, beside it the public weights/ (default: %(default)s)"
    parser.addoption("--data", type=Path, default=ROOT.parent / "shared" / "data", metavar="DIR", help=about)


def data_folder(config: pytest.Config) -> Path:
    """Return where the pictures are that are not in the repository."""
    return Path(config.getoption("--data"))


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is skipped without the pictures."""
    folder = data_folder(config)
    missing = [name for name in ("set5", "set14", "kodak24", "odd") if not (folder / name).is_dir()]
    if not missing:
        return f"data: {folder}"
    return f"data: no {', '.join(missing)} in {folder}, so tests of published figures are skipped; pytest --data DIR"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums split over threads differ in their last bit; a test that imports torch later computes so little that none start."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _graphs_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``sr-export`` take the graph that it made of an equal network before; ``test_to_onnx`` looks at the exporter itself."""
    if "sr_deploy.export.prepare" in sys.modules:
        from tests.helpers.graphs import cached_graph

        monkeypatch.setattr("sr_deploy.export.prepare.graph_from_network", cached_graph)


@pytest.fixture(autouse=True)
def _ctrl_c_arrives() -> None:
    """A shell starts a job in the background with Ctrl-C ignored, which tests of interrupts would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of photographs kept for tests."""
    return ROOT / "tests" / "pictures"


@pytest.fixture(scope="session")
def outside(pytestconfig: pytest.Config) -> Outside:
    """Return a folder below ``--data``; a test that wants one that is missing is skipped."""

    def folder(name: str) -> Path:
        found = data_folder(pytestconfig) / name
        if not found.is_dir():
            pytest.skip(f"{found} is not here: pytest --data DIR")
        return found.resolve()

    return folder


@pytest.fixture(scope="session")
def crops(pictures: Path) -> list[NDArray[np.uint8]]:
    """Three detailed 64x64 parts of the photographs: uint8 (64, 64, 3)."""
    corners = {"china.jpg": (150, 200), "coffee.png": (180, 260), "grass.png": (100, 100)}
    found = []
    for name, (top, left) in corners.items():
        with Image.open(pictures / name) as image:
            found.append(np.asarray(image.convert("RGB"))[top : top + 64, left : left + 64])
    return found


@pytest.fixture
def photos(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> Path:
    """A folder of three 64x64 PNG pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(folder / f"{number}.png")
    return folder

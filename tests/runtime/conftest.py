"""Engines of small networks for the tests of the run-time."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.backends.load import load
from tests.runtime.tiny_onnx import random_weights, write, zero_weights


@pytest.fixture(scope="session")
def identity_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine file whose network returns its input; 128x128 tiles, halo 2."""
    return write(tmp_path_factory.mktemp("identity") / "identity_fp32.onnx", zero_weights((2, 1)), (1, 1, 128, 128))


@pytest.fixture(scope="session")
def identity(identity_file: Path) -> Engine:
    """Return that engine."""
    return load(identity_file, threads=1)


@pytest.fixture(scope="session")
def engine_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine file whose network returns its input; 32x32 tiles, halo 2: small enough for videos."""
    return write(tmp_path_factory.mktemp("engine") / "identity.onnx", zero_weights((2, 1)), (1, 1, 32, 32))


@pytest.fixture(scope="session")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine file with random weights; 48x64 tiles, halo 3."""
    return write(tmp_path_factory.mktemp("random") / "random_fp32.onnx", random_weights((8, 8, 1)), (1, 1, 48, 64))


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Return the folder of photographs that come with the tests."""
    return Path(__file__).resolve().parents[1] / "pictures"

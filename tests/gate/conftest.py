"""A small network that sharpens, pictures and budgets for the tests of the gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime import tiny_onnx as tiny

SHAPE = (1, 1, 48, 48)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an fp32 graph that sharpens; 48x48 tiles, halo 4."""
    return tiny.write(tmp_path_factory.mktemp("reference") / "sharp_fp32.onnx", tiny.sharpening_weights(4), SHAPE)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an fp32 graph that returns its input."""
    return tiny.write(tmp_path_factory.mktemp("identity") / "identity_fp32.onnx", tiny.zero_weights((2, 1)), SHAPE)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with parts of three photographs, 96x96, one of them grey."""
    folder = tmp_path_factory.mktemp("data")
    for path in sorted((Path(__file__).resolve().parents[1] / "pictures").glob("*.*g")):
        with Image.open(path) as image:
            image.crop((200, 150, 296, 246)).save(folder / f"{path.stem}.png")
    return folder


@pytest.fixture(scope="session")
def budgets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the budgets of the repository for fp32, and looser ones for int8."""
    path = tmp_path_factory.mktemp("budgets") / "gates.toml"
    path.write_text(
        "[fp32]\nmax_drop_db = 0.001\nmin_agreement_db = 90.0\nmax_weight_error_steps = 0\n"
        "[fp16]\nmax_drop_db = 0.005\nmin_agreement_db = 65.0\nmax_weight_error_steps = 0.51\n"
        "[int8]\nmax_drop_db = 0.15\nmax_drop_worst_picture_db = 0.3\nmin_agreement_db = 42.0\nmax_shift_levels = 0.25\n"
    )
    return path


@pytest.fixture(scope="session")
def flat_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one picture that is a single grey level."""
    folder = tmp_path_factory.mktemp("flat")
    Image.fromarray(np.full((64, 64), 100, np.uint8)).save(folder / "flat.png")
    return folder

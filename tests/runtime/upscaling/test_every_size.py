"""For every size, the picture that tiles give is the one that is defined: that of the whole picture mirrored at its edges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.card import Shape
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.upscaling.tiling import run_whole
from tests.runtime import tiny_onnx as tiny
from tests.runtime.tiny_variants import chain, write_inside, write_int8

TILE = (18, 22)
HALO = 3  # of three 3x3 convolutions
COUNT = 200
Write = Callable[[Path, Shape], Path]
ENGINES: dict[str, Write] = {
    "fp32": lambda path, shape: tiny.write(path, tiny.random_weights((8, 8, 1)), shape),
    "int8": lambda path, shape: write_int8(path, tiny.random_weights((8, 8, 1)), shape),
    "inside": lambda path, shape: write_inside(path, chain(8, 8, 4), shape),
}


def sizes() -> list[tuple[int, int]]:
    """Return random sizes from one pixel to three tiles, and those around a tile's own."""
    rng = np.random.default_rng(0)
    h, w = TILE
    near = [(h + a, w + b) for a in (-1, 0, 1) for b in (-1, 0, 1)] + [(1, 1), (1, 3 * w), (3 * h, 1)]
    drawn = [(int(rng.integers(1, 3 * h)), int(rng.integers(1, 3 * w))) for _ in range(COUNT - len(near))]
    return near + drawn


def defined(path: Path, write: Write, planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is defined as the result, from a graph of the extended picture's own size: one tile."""
    whole = np.pad(planes, ((0, 0), (HALO, HALO), (HALO, HALO)), mode="symmetric")
    output: NDArray[np.float32] = load(write(path, (1, 1, *whole.shape[1:])), threads=1).run(whole[None])[0]
    cut = HALO * output.shape[1] // whole.shape[1]
    return output[:, cut:-cut, cut:-cut]


@pytest.mark.parametrize("kind", ENGINES)
def test_tiles_give_the_whole_picture_for_every_size(tmp_path: Path, kind: str) -> None:
    write = ENGINES[kind]
    engine = load(write(tmp_path / "tiles.onnx", (1, 1, *TILE)), threads=1)
    rng = np.random.default_rng(1)
    changed = 0
    for h, w in sizes():
        planes = rng.random((1, h, w), np.float32)
        found, expected = run_whole(engine, planes), defined(tmp_path / "whole.onnx", write, planes)
        assert found.shape == expected.shape
        if kind == "int8":
            assert np.array_equal(found, expected), (h, w)
        else:
            assert np.abs(found - expected).max() <= 1e-5, (h, w)  # sums of another order, in float32
        changed += kind == "inside" or not np.array_equal(found, planes)
    assert changed == COUNT  # the networks do something


def test_a_halo_that_is_too_small_is_found(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "tiles.onnx", tiny.random_weights((8, 8, 1)), (1, 1, *TILE), halo=1)
    planes = np.random.default_rng(1).random((1, 40, 50), np.float32)
    expected = defined(tmp_path / "whole.onnx", ENGINES["fp32"], planes)
    assert np.abs(run_whole(load(path, threads=1), planes) - expected).max() > 1e-3

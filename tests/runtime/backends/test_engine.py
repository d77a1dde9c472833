"""Loading engines and running tiles through them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from sr_deploy.errors import EngineError, InputError, MachineError
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.backends.load import exact_engines, load
from sr_deploy.runtime.backends.onnx_engine import OnnxEngine, check_provider
from tests.runtime import tiny_onnx as tiny


def tiles_of(n: int, *, seed: int = 0, h: int = 48, w: int = 64) -> Tiles:
    return np.random.default_rng(seed).random((n, 1, h, w), np.float32)


def convolved(tile: Tiles, weights: tiny.Weights) -> Tiles:
    """Return the network's output for (1, 1, h, w) in float64, written out."""
    value = tile[0].astype(np.float64)
    for index, kernels in enumerate(weights, start=1):
        padded = np.pad(value, ((0, 0), (1, 1), (1, 1)))
        h, w = value.shape[1:]
        patches = np.stack([padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=1)  # (in, 9, h, w)
        value = np.einsum("oik,ikhw->ohw", kernels.reshape(*kernels.shape[:2], 9), patches)
        if index < len(weights):
            value = np.maximum(value, 0.0)
    return np.asarray(tile + value, np.float32)


@pytest.fixture(scope="module")
def engine(random_file: Path) -> Engine:
    return load(random_file, threads=1)


def test_engine_computes_the_network(engine: Engine) -> None:
    tiles = tiles_of(1)
    # float32 sums of at most 72 products of magnitude one
    assert np.allclose(engine.run(tiles), convolved(tiles, tiny.random_weights((8, 8, 1))), atol=1e-5)


def test_engine_carries_the_card_of_its_file(engine: Engine) -> None:
    assert engine.card.halo == 3


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_any_number_of_tiles_runs(engine: Engine, n: int) -> None:
    tiles = tiles_of(n)
    expected = np.concatenate([engine.run(tile[None]) for tile in tiles])
    assert np.array_equal(engine.run(tiles), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_graph_of_batch_two_runs_any_number_of_tiles(tmp_path: Path, engine: Engine, n: int) -> None:
    pairs = load(tiny.write(tmp_path / "b.onnx", tiny.random_weights((8, 8, 1)), (2, 1, 48, 64)), threads=1)
    tiles = tiles_of(n)
    found = pairs.run(tiles)
    assert found.shape == tiles.shape
    # the same convolutions, summed in another order perhaps
    assert np.allclose(found, engine.run(tiles), atol=1e-6)


def test_tiles_that_are_not_contiguous_run(engine: Engine) -> None:
    tiles = tiles_of(2)[:, :, ::-1, ::-1]
    assert np.array_equal(engine.run(tiles), engine.run(tiles.copy()))


def test_the_input_is_not_changed_and_the_output_is_new(engine: Engine) -> None:
    tiles = tiles_of(1)
    before = tiles.copy()
    found = engine.run(tiles)
    assert not np.shares_memory(found, tiles)
    assert np.array_equal(tiles, before)


def test_output_is_not_clipped(tmp_path: Path) -> None:
    bright = load(tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 8, 8), offset=2.0), threads=1)
    assert bright.run(np.zeros((1, 1, 8, 8), np.float32)).min() == 2.0


@pytest.mark.parametrize(
    "tiles",
    [
        np.zeros((1, 1, 48, 64), np.float64),
        np.zeros((1, 1, 48, 64), np.uint8),
        np.zeros((1, 1, 64, 48), np.float32),
        np.zeros((1, 3, 48, 64), np.float32),
        np.zeros((1, 48, 64), np.float32),
        np.zeros((0, 1, 48, 64), np.float32),
    ],
)
def test_tiles_of_another_type_or_shape_are_refused(engine: Engine, tiles: Tiles) -> None:
    with pytest.raises(ValueError, match=r"the engine takes float32 \(n >= 1, \(1, 48, 64\)\)"):
        engine.run(tiles)


def test_a_closed_engine_refuses_to_run(random_file: Path) -> None:
    with closing(load(random_file, threads=1)) as engine:
        engine.run(tiles_of(1))
    with pytest.raises(EngineError, match="was closed; load it again"):
        engine.run(tiles_of(1))


def test_two_threads_share_an_engine(engine: Engine) -> None:
    inputs = [tiles_of(2, seed=seed) for seed in range(16)]
    expected = [engine.run(tiles) for tiles in inputs]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine.run, inputs))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_plan_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(b"x")
    with pytest.raises(MachineError, match=r"m\.plan: .*NVIDIA GPU"):
        load(tmp_path / "m.plan")


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m", "m.onnx.bak"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="not an engine"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["none.onnx", "none.plan"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / name)


def test_a_suffix_in_capitals_is_known(tmp_path: Path) -> None:
    assert load(tiny.write(tmp_path / "M.ONNX", tiny.zero_weights((2, 1)), (1, 1, 8, 8)), threads=1).card.arch == "vdsr"


def test_a_provider_that_is_not_offered_is_refused(random_file: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is offered here")
    with pytest.raises(InputError, match=r"--provider cuda: the installed ONNX Runtime offers .*sr-deploy\[cuda\]"):
        load(random_file, provider="cuda")


def test_a_silent_fall_back_to_the_cpu_is_the_machines_failure() -> None:
    with pytest.raises(MachineError, match=r"--provider cuda: .* could not start CUDAExecutionProvider and would use CPU"):
        check_provider("cuda", "CPUExecutionProvider")
    check_provider("auto", "CPUExecutionProvider")
    check_provider("cpu", "CPUExecutionProvider")


def test_where_an_engine_runs_is_known(random_file: Path) -> None:
    assert OnnxEngine(random_file, provider="cpu", threads=1).provider == "CPUExecutionProvider"


def test_the_cpu_provider_can_be_named(random_file: Path, engine: Engine) -> None:
    assert np.array_equal(load(random_file, provider="cpu", threads=1).run(tiles_of(1)), engine.run(tiles_of(1)))


def test_a_missing_backend_is_one_line_with_the_three_extras(random_file: Path, tmp_path: Path) -> None:
    picture = Path(__file__).resolve().parents[2] / "pictures" / "coffee.png"
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from sr_deploy.runtime.infer.command import main\n"
        "sys.exit(main(['--engine', sys.argv[1], sys.argv[2], '-o', sys.argv[3]]))"
    )
    command = [sys.executable, "-c", code, str(random_file), str(picture), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert all(f"'sr-deploy[{extra}]'" in done.stderr for extra in ("cpu", "cuda", "tensorrt"))


def test_a_sealed_file_that_is_no_graph_is_one_line(tmp_path: Path) -> None:
    from sr_deploy.card import seal

    card = tiny.card_of(tiny.zero_weights((2, 1)), (1, 1, 8, 8)).to_json()
    (tmp_path / "m.onnx").write_bytes(seal(tiny.model_of(b"", card), source="test"))
    with pytest.raises(InputError, match="ONNX Runtime cannot load it") as caught:
        load(tmp_path / "m.onnx", threads=1)
    assert "\n" not in str(caught.value)


def test_a_card_without_shape_is_refused(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 8, 8), input_shape=None)
    with pytest.raises(InputError, match="names no input shape"):
        load(path, threads=1)


def test_a_graph_that_fails_while_it_runs_fails_as_an_engine(tmp_path: Path) -> None:
    engine = OnnxEngine(tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 8, 8)), threads=1)
    engine._card = engine.card.with_changes(input_shape=(1, 1, 9, 9))
    with pytest.raises(EngineError, match="ONNX Runtime failed") as caught:
        engine.run(np.zeros((1, 1, 9, 9), np.float32))
    assert "\n" not in str(caught.value)


def test_a_card_whose_shape_is_not_the_graphs_is_refused(tmp_path: Path) -> None:
    wrong = (1, 1, 9, 9)
    path = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 8, 8), input_shape=wrong, output_shape=wrong)
    with pytest.raises(InputError, match=r"names an input of \(1, 1, 9, 9\), the graph has \[\[1, 1, 8, 8\]\]"):
        load(path, threads=1)


def test_quality_is_judged_with_sums_that_never_saturate(tmp_path: Path, random_file: Path) -> None:
    int8 = tiny.write(tmp_path / "random_int8.onnx", tiny.random_weights((8, 8, 1)), (1, 1, 48, 64), precision="int8")
    engines = {str(path): load(path, threads=1) for path in (random_file, int8)}
    with ExitStack() as stack:
        judges = exact_engines(engines, stack, threads=1)
        assert judges[str(random_file)] is engines[str(random_file)]  # no integers in it
        judge = judges[str(int8)]
        assert isinstance(judge, OnnxEngine) and judge._session is not None
        assert judge._session.get_session_options().get_session_config_entry("session.x64quantprecision") == "1"
    assert judge._session is None  # closed with the stack

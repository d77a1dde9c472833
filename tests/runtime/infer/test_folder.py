"""Pictures through overlapping stages: the same results, one failure at a time, and an orderly end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sr_deploy.card import ModelCard
from sr_deploy.errors import EngineError, InputError
from sr_deploy.runtime.backends.engine import Engine, Tiles, WrappedEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.infer import folder as folder_run
from sr_deploy.runtime.infer.folder import FolderRun
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.read import PictureFile, read_picture
from sr_deploy.runtime.upscaling import pipeline
from sr_deploy.runtime.upscaling.batches import run_together
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.upscaling.upscaling import Upscaling, upscale

MODES = ("RGB", "L", "RGBA", "LA", "RGB")


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Return five pictures of different modes and sizes, one of them with a colour profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = []
    for i, mode in enumerate(MODES):
        path = tmp_path / f"{i}.png"
        Image.effect_noise((40 + 31 * i, 70 - 9 * i), 60).convert(mode).save(path, icc_profile=profile if i == 0 else None)
        found.append((path, tmp_path / "out" / path.name))
    return found


def all_ended() -> bool:
    """Return whether the threads of stages have ended; the very last of their work may still be under way."""
    for thread in threading.enumerate():
        if "_work" in thread.name:
            thread.join(5)
    return not [thread for thread in threading.enumerate() if "_work" in thread.name]


@pytest.mark.parametrize("overlap", [True, False])
def test_results_are_those_of_one_picture_after_the_other(
    random_file: Path, pairs: list[tuple[Path, Path]], overlap: bool
) -> None:
    with closing(load(random_file, threads=1)) as engine:
        run = FolderRun(engine, 2, overlap=overlap)
        tasks = list(run.run(pairs))
        assert [task.source for task in tasks] == [source for source, _ in pairs] and not any(task.error for task in tasks)
        for source, output in pairs:
            found, original = read_picture(output), read_picture(source)
            assert np.array_equal(found.pixels, upscale(engine, original.pixels, 2))
            assert found.icc_profile == original.icc_profile
    assert set(run.times.seconds) == {"decode", "tiles", "engine", "colour", "encode", "write"}
    assert all_ended()


@pytest.mark.parametrize("overlap", [True, False])
def test_a_picture_that_fails_holds_no_other_up(random_file: Path, pairs: list[tuple[Path, Path]], overlap: bool) -> None:
    pairs[1][0].write_bytes(b"no picture")
    pairs[3][1].parent.mkdir()
    pairs[3][1].write_text("mine")

    def check(task: folder_run.Task) -> None:
        if task.source == pairs[4][0]:
            raise InputError("not this one")

    with closing(load(random_file, threads=1)) as engine:
        tasks = list(FolderRun(engine, 2, overlap=overlap).run(pairs, check=check))
    assert [type(task.error) for task in tasks] == [type(None), InputError, type(None), InputError, InputError]
    assert sorted(path.name for path in pairs[0][1].parent.iterdir()) == ["0.png", "2.png", "3.png"]
    assert pairs[3][1].read_text() == "mine"


class Failing(WrappedEngine):
    """An engine that fails on one of its runs."""

    def __init__(self, engine: Engine, which: int, error: BaseException) -> None:
        super().__init__(engine)
        self.left, self.error = which, error

    def run(self, tiles: Tiles) -> Tiles:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.engine.run(tiles)


@pytest.mark.parametrize("overlap", [True, False])
def test_an_engine_that_fails_once_costs_one_picture(random_file: Path, pairs: list[tuple[Path, Path]], overlap: bool) -> None:
    with closing(Failing(load(random_file, threads=1), 2, EngineError("lost"))) as engine:
        tasks = list(FolderRun(engine, 2, overlap=overlap).run(pairs))
    failed = [task for task in tasks if task.error is not None]
    assert len(tasks) == 5 and [str(task.error) for task in failed] == ["lost"]
    assert not failed[0].output.exists()


@pytest.mark.parametrize("overlap", [True, False])
def test_a_picture_that_failed_is_let_go(
    random_file: Path, pairs: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    made: list[weakref.ref[Upscaling]] = []

    class Watched(Upscaling):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(weakref.ref(self))

        def put(self, band: Band, output: Tiles) -> float:
            raise MemoryError

    monkeypatch.setattr(folder_run, "Upscaling", Watched)
    gc.disable()
    try:
        with closing(load(random_file, threads=1)) as engine:
            tasks = list(FolderRun(engine, 2, overlap=overlap).run(pairs))
    finally:
        gc.enable()
    assert [type(task.error) for task in tasks] == [MemoryError] * 5
    assert [ref() for ref in made] == [None] * 5


@pytest.mark.parametrize("overlap", [True, False])
def test_what_is_not_expected_ends_the_run(random_file: Path, pairs: list[tuple[Path, Path]], overlap: bool) -> None:
    with (
        closing(Failing(load(random_file, threads=1), 3, ZeroDivisionError("a bug"))) as engine,
        pytest.raises(ZeroDivisionError, match="a bug"),
    ):
        list(FolderRun(engine, 2, overlap=overlap).run(pairs))


@pytest.mark.parametrize("overlap", [True, False])
def test_stopping_in_the_middle_leaves_whole_files_only(random_file: Path, pairs: list[tuple[Path, Path]], overlap: bool) -> None:
    with closing(load(random_file, threads=1)) as engine, closing(FolderRun(engine, 2, overlap=overlap).run(pairs)) as tasks:
        assert next(tasks).error is None
    assert all_ended()
    for path in pairs[0][1].parent.iterdir():
        assert read_picture(path).pixels.size


def test_pictures_are_not_decoded_far_ahead(
    random_file: Path, pairs: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_run, "MOST_BYTES", 1)  # one picture at a time
    alive: list[int] = []
    held: set[Path] = set()

    class Counting(PictureFile):
        def read(self) -> Picture:
            held.add(self.path)
            alive.append(len(held))
            return super().read()

    monkeypatch.setattr(folder_run, "PictureFile", Counting)
    with closing(load(random_file, threads=1)) as engine:
        for task in FolderRun(engine, 2).run(pairs):
            held.discard(task.source)
    assert max(alive) <= 2  # one on its way, one decoded and waiting


class Batching(WrappedEngine):
    """An engine that says it takes four tiles at once, and counts them."""

    def __init__(self, engine: Engine, *, fails_on: int = 0) -> None:
        super().__init__(engine)
        self.runs, self.fails_on = list[int](), fails_on

    @property
    def card(self) -> ModelCard:
        return self.engine.card.with_batch(4)

    def run(self, tiles: Tiles) -> Tiles:
        self.runs.append(len(tiles))
        if len(tiles) == self.fails_on:
            raise EngineError("too many")
        return self.engine.run(tiles)


def small_pictures(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Return pictures of one tile each at the scale 1."""
    pairs = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.effect_noise((20 + i, 17), 60).save(path)
        pairs.append((path, folder / "out" / path.name))
    return pairs


@pytest.mark.parametrize("overlap", [True, False])
def test_small_pictures_share_a_run_of_the_engine(random_file: Path, tmp_path: Path, overlap: bool) -> None:
    pairs = small_pictures(tmp_path, 9)
    pairs[2][0].write_bytes(b"no picture")
    with closing(Batching(load(random_file, threads=1))) as engine:
        tasks = list(FolderRun(engine, 1, overlap=overlap).run(pairs))
        assert engine.runs == [4, 4]
        assert [task.error is None for task in tasks] == [i != 2 for i in range(9)]
        for source, output in pairs[:2] + pairs[3:]:
            assert np.array_equal(read_picture(output).pixels, upscale(engine.engine, read_picture(source).pixels, 1))


@pytest.mark.parametrize("overlap", [True, False])
def test_pictures_that_fail_together_are_tried_alone(random_file: Path, tmp_path: Path, overlap: bool) -> None:
    pairs = small_pictures(tmp_path, 5)
    with closing(Batching(load(random_file, threads=1), fails_on=4)) as engine:
        tasks = list(FolderRun(engine, 1, overlap=overlap).run(pairs))
    assert engine.runs == [4, 1, 1, 1, 1, 1] and not any(task.error for task in tasks)


@pytest.mark.parametrize("overlap", [True, False])
def test_a_large_picture_does_not_wait_for_small_ones_that_wait_for_it(
    random_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    pairs = small_pictures(tmp_path, 3)
    Image.effect_noise((200, 150), 60).save(tmp_path / "large.png")
    pairs.insert(2, (tmp_path / "large.png", tmp_path / "out" / "large.png"))
    monkeypatch.setattr(folder_run, "MOST_BYTES", 8 * 2 * 20 * 17 + 8)  # the first alone may wait
    with closing(Batching(load(random_file, threads=1))) as engine:
        tasks = list(FolderRun(engine, 1, overlap=overlap).run(pairs))
    assert len(tasks) == 4 and not any(task.error for task in tasks)


def test_an_error_that_is_found_while_the_engine_runs_moves_no_result(
    random_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = small_pictures(tmp_path, 4)
    with closing(Batching(load(random_file, threads=1))) as engine:
        run = FolderRun(engine, 1)
        expected = [upscale(engine.engine, read_picture(source).pixels, 1) for source, _ in pairs]
        together = run_together

        def late(run: Callable[[Tiles], Tiles], bands: Sequence[Band]) -> list[Tiles]:
            found = together(run, bands)
            seen[1].failed(EngineError("late"))  # as another stage may
            return found

        seen: list[folder_run.Task] = []
        monkeypatch.setattr(pipeline, "run_together", late)
        tasks = []
        for task in run.run(pairs, check=seen.append):
            tasks.append(task)
    assert [task.error is None for task in tasks] == [True, False, True, True]
    for i in (0, 2, 3):
        assert np.array_equal(read_picture(pairs[i][1]).pixels, expected[i])

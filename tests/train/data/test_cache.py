from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import sr_deploy.train.data.cache
from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.cache import Cache, most_maps, read_header
from tests.helpers.batches import pictures_of

SETTINGS = [
    {"scales": (2, 3), "patch": 16, "shrink": (1.0, 0.7)},
    {"scales": (2, 3, 3), "patch": 16, "shrink": (0.7,), "detail": 0.5},
    {"scales": (2,), "patch": 16, "shrink": (1.0,), "upscale": "inside", "colors": 3},
    {"scales": (2, 3, 4), "patch": 9, "shrink": (1.0,), "detail": 1.0, "upscale": "inside", "colors": 3, "one_scale": True},
]


def config(folder: Path, number: int = 0) -> DataConfig:
    return DataConfig((folder,), **SETTINGS[number])  # type: ignore[arg-type]


def same(a: PatchSource, b: PatchSource) -> bool:
    batches = [[source.batch(size=5, seed=1, step=step) for step in range(6)] for source in (a, b)]
    equal = all(torch.equal(x, y) for one, two in zip(*batches, strict=True) for x, y in zip(one[:2], two[:2], strict=True))
    return equal and (a.digest, a.patches) == (b.digest, b.patches)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_batches_and_digest_are_those_of_the_source_in_memory(photos: Path, tmp_path: Path, number: int) -> None:
    plain = PatchSource(config(photos, number))
    assert same(plain, PatchSource(config(photos, number), cache=tmp_path / "cache", workers=3))  # as it is filled
    assert same(plain, PatchSource(config(photos, number), cache=tmp_path / "cache"))  # as it is found


def test_pairs_of_files_are_cached_too(photos: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    lr.mkdir()
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.resize((31, 32)).save(lr / path.name)
    pairs = DataConfig((photos,), (2,), 16, (1.0,), upscale="inside", lr=lr)
    plain = PatchSource(pairs)
    for _ in range(2):
        assert same(plain, PatchSource(pairs, cache=tmp_path / "cache"))
    with Image.open(lr / "0.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(lr / "0.png")
    assert not same(plain, PatchSource(pairs, cache=tmp_path / "cache"))
    assert same(PatchSource(pairs), PatchSource(pairs, cache=tmp_path / "cache"))


def test_a_second_run_decodes_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first = PatchSource(config(photos, 1), cache=cache)
    monkeypatch.setattr("sr_deploy.train.data.picture_pairs.read_planes", lambda *_: pytest.fail("decoded again"))
    assert PatchSource(config(photos, 1), cache=cache).digest == first.digest


def test_a_renamed_picture_is_known_and_another_one_of_the_same_name_is_not(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    PatchSource(config(photos), cache=cache)
    before = files(cache)
    (photos / "0.png").rename(photos / "0b.png")
    PatchSource(config(photos), cache=cache)
    assert files(cache) == before
    with Image.open(photos / "2.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "2.png")
    assert same(PatchSource(config(photos)), PatchSource(config(photos), cache=cache))
    assert len(files(cache)) > len(before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:50],
        lambda content: b"",
        lambda content: b"\0" * len(content),
        lambda content: content.replace(b"'descr': '", b"'descr: '"),
    ],
)
def test_a_damaged_file_is_made_again(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object) -> None:
    assert callable(damage)
    cache = tmp_path / "cache"
    plain = PatchSource(config(photos, 1))
    PatchSource(config(photos, 1), cache=cache)
    contents = {path: path.read_bytes() for path in files(cache)}
    for path, content in contents.items():
        path.write_bytes(damage(content))
    assert same(plain, PatchSource(config(photos, 1), cache=cache))
    assert {path: path.read_bytes() for path in files(cache)} == contents
    assert len(caplog.records) == len(contents)
    assert all(record.levelname == "WARNING" and record.message.endswith("made again") for record in caplog.records)


@pytest.mark.slow
def test_two_processes_may_fill_one_folder(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sr_deploy.train.data.batches import DataConfig, PatchSource\n"
        "config = DataConfig((Path(sys.argv[1]),), (2, 3), 16, (1.0, 0.7))\n"
        "print(PatchSource(config, workers=2, cache=Path(sys.argv[2])).digest)"
    )
    command = [sys.executable, "-c", code, str(photos), str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate()[0].strip() for process in started]
    assert digests == [PatchSource(config(photos)).digest] * 2
    assert all(read_header(path) is not None for path in files(tmp_path / "cache"))


def test_what_is_kept_changes_only_with_its_version(tmp_path: Path) -> None:
    """Another digest here means that old caches hold other values: raise ``CONTENT``."""
    y, x = np.mgrid[0:36, 0:48]
    Image.fromarray(np.stack([x * 5, y * 7, (x * y) % 256], -1).astype(np.uint8)).save(tmp_path / "a.png")
    data = PatchSource(DataConfig((tmp_path,), (2, 3), 12, (1.0, 0.7), colors=3))
    digest = hashlib.sha256()
    for pairs in pictures_of(data).by_scale.values():
        for pair in pairs:
            digest.update(np.asarray(pair.original[:, :, :]).tobytes() + np.asarray(pair.degraded[:, :, :]).tobytes())
    assert (sr_deploy.train.data.cache.CONTENT, digest.hexdigest()[:16]) == (1, "8ec60bb22a00cdbb")


def test_an_interrupted_picture_leaves_no_half_written_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sr_deploy.train.data.cache.np.lib.format.write_array", stop)
    with pytest.raises(KeyboardInterrupt):
        PatchSource(config(photos), cache=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_cache_that_is_a_file_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--cache .*0\.png: a file, a folder is needed; choose another name"):
        Cache(photos / "0.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_cache_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0)
    with pytest.raises(InputError, match=r"--cache .*cache: cannot be read \(Permission denied\)"):
        Cache(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_picture(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for number in range(256):
        (cache / f"{number:02x}").write_bytes(b"")  # where folders should be
    with pytest.raises(MachineError, match=r"cache/.*cannot be (read|written) \(Not a directory\)"):
        PatchSource(config(photos), cache=cache)


def test_a_file_that_vanishes_is_named(photos: Path, tmp_path: Path) -> None:
    data = PatchSource(config(photos), cache=tmp_path / "cache")
    for path in files(tmp_path / "cache"):
        path.unlink()
    pictures_of(data).store._mapped.cache_clear()  # type: ignore[attr-defined]
    with pytest.raises(MachineError, match=r"changed while it was in use .*; run again, the cache mends itself"):
        data.batch(size=2, seed=0, step=0)


def test_more_files_than_may_be_open_are_no_matter(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(np.roll(crops[0], number, 0)).save(folder / f"{number}.bmp")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 75, hard))
    try:
        assert most_maps() == 64
        data = PatchSource(DataConfig((folder,), (2,), 16, (1.0,)), cache=tmp_path / "cache")
        batches = [data.batch(size=16, seed=0, step=step) for step in range(20)]  # of 80 files
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    plain = PatchSource(DataConfig((folder,), (2,), 16, (1.0,)))
    assert all(
        torch.equal(batch.degraded, plain.batch(size=16, seed=0, step=step).degraded) for step, batch in enumerate(batches)
    )


def test_threads_cut_from_the_same_files(photos: Path, tmp_path: Path) -> None:
    data, plain = PatchSource(config(photos), cache=tmp_path / "cache"), PatchSource(config(photos))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda step: data.batch(size=4, seed=0, step=step).original, range(30)))
    assert all(torch.equal(batch, plain.batch(size=4, seed=0, step=step).original) for step, batch in enumerate(found))


def filled_bytes(folder: Path, cache: Path | None) -> int:
    """Return the most memory that arrays took while a source was made."""
    tracemalloc.start()
    try:
        PatchSource(DataConfig((folder,), (2, 3), 16, (1.0, 0.7), 0.5), cache=cache)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_filling_a_cache_takes_the_memory_of_one_picture(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, number in ((few, 2), (many, 16)):
        folder.mkdir()
        for roll in range(number):
            Image.fromarray(np.roll(np.tile(crops[0], (4, 4, 1)), roll, 0)).save(folder / f"{roll}.bmp")
    filled_bytes(few, None)  # what is imported and tabulated once
    assert filled_bytes(many, tmp_path / "a") < 1.2 * filled_bytes(few, tmp_path / "b")  # headers and names of 14 more
    assert filled_bytes(many, None) > 1.5 * filled_bytes(few, None)  # in memory everything stays

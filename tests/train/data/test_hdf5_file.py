from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError, MachineError
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.hdf5_file import PatchFile

h5py = pytest.importorskip("h5py")


def write(
    path: Path,
    given: tuple[int, ...] = (9, 1, 12, 12),
    side: tuple[int, ...] = (9, 1, 12, 12),
    told: Mapping[str, object] | None = None,
    *,
    seed: int = 0,
) -> Path:
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file["data"] = rng.random(given, np.float32)
        file["label"] = rng.random(side, np.float32)
        file.attrs.update(told or {})
    return path


def config(
    *paths: Path, scales: tuple[int, ...] = (2, 3), patch: int = 12, upscale: Upscale = "before", colors: int = 1
) -> DataConfig:
    several = upscale == "inside" and len(scales) > 1
    return DataConfig(paths, scales, patch, (1.0,), 0.0, upscale, colors, one_scale=several)


def orientations(patch: torch.Tensor) -> list[torch.Tensor]:
    turned = [torch.rot90(patch, turns, (1, 2)) for turns in range(4)]
    return [*turned, *(t.flip(2) for t in turned)]


def test_patches_of_a_file_from_elsewhere_are_drawn_flipped_and_turned(tmp_path: Path) -> None:
    data = PatchSource(config(write(tmp_path / "train.h5")))
    with h5py.File(tmp_path / "train.h5") as file:
        kept = [(torch.from_numpy(file["data"][n]), torch.from_numpy(file["label"][n])) for n in range(9)]
    degraded, original, scale = data.batch(size=200, seed=0, step=0)
    assert scale is None and degraded.dtype == original.dtype == torch.float32
    seen = set()
    for a, b in zip(degraded, original, strict=True):
        for number, (x, y) in enumerate(kept):
            for way, (given, wanted) in enumerate(zip(orientations(x), orientations(y), strict=True)):
                if torch.equal(b, wanted):
                    assert torch.equal(a, given)
                    seen.add((number, way))
    assert {number for number, _ in seen} == set(range(9))
    assert {way for _, way in seen} == set(range(8))
    assert len(seen) > 60  # of 72, 200 draws leave 4.5 out on average


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    write(tmp_path / "train.h5")
    a, b = (PatchSource(config(tmp_path / "train.h5"), workers=workers) for workers in (1, 3))
    for step in (0, 7):
        assert torch.equal(a.batch(size=4, seed=1, step=step)[0], b.batch(size=4, seed=1, step=step)[0])
    assert not torch.equal(a.batch(size=4, seed=1, step=0)[0], a.batch(size=4, seed=1, step=1)[0])
    batches = b.batches(size=4, seed=1, first_step=0, workers=4)
    assert all(torch.equal(next(batches)[1], a.batch(size=4, seed=1, step=step)[1]) for step in range(12))
    batches.close()


def test_an_epoch_is_the_patches_and_the_digest_the_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{seed}.h5", seed=seed) for seed in (0, 1)]
    a, b = (PatchSource(config(path)) for path in paths)
    assert a.patches == 9 and PatchSource(config(*paths)).patches == 18
    assert a.digest != b.digest
    write(tmp_path / "again.h5", seed=0)
    assert PatchSource(config(tmp_path / "again.h5")).digest == a.digest


def test_several_files_are_drawn_from_alike(tmp_path: Path) -> None:
    few, many = write(tmp_path / "few.h5", (4, 1, 12, 12), (4, 1, 12, 12)), tmp_path / "many.h5"
    with h5py.File(many, "w") as file:
        file["data"] = file["label"] = np.ones((36, 1, 12, 12), np.float32)
    _, original, _ = PatchSource(config(few, many)).batch(size=200, seed=0, step=0)
    share = float((original.amin((1, 2, 3)) == 1.0).float().mean())
    assert share == pytest.approx(0.9, abs=0.07)  # three standard deviations of 200 draws


def test_networks_that_enlarge_read_low_resolution_patches(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", (9, 3, 6, 6), (9, 3, 18, 18))
    data = PatchSource(config(path, scales=(3,), patch=18, upscale="inside", colors=3))
    degraded, original, _ = data.batch(size=2, seed=0, step=0)
    assert degraded.shape == (2, 3, 6, 6) and original.shape == (2, 3, 18, 18)


def test_a_file_for_each_scale_serves_one_scale_a_batch(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"x{scale}.h5", (9, 1, 6, 6), (9, 1, 6 * scale, 6 * scale)) for scale in (2, 3, 4)]
    data = PatchSource(config(*paths, scales=(2, 3, 4), patch=6, upscale="inside"))
    scales = set()
    for step in range(20):
        degraded, original, scale = data.batch(size=2, seed=0, step=step)
        assert scale is not None and degraded.shape == (2, 1, 6, 6) and original.shape == (2, 1, 6 * scale, 6 * scale)
        scales.add(scale)
    assert scales == {2, 3, 4}


@pytest.mark.parametrize(
    ("given", "side", "told", "message"),
    [
        (
            (0, 1, 12, 12),
            (0, 1, 12, 12),
            {},
            r"data \(0, 1, 12, 12\) and label \(0, 1, 12, 12\) do not fit each other, are empty, or have sides of more than",
        ),
        ((9, 1, 12, 12), (8, 1, 12, 12), {}, "do not fit each other, are empty, or have"),
        ((9, 1, 12, 12), (9, 1, 18, 18), {}, "do not fit each other, are empty, or have"),
        ((9, 12, 12), (9, 12, 12), {}, r"data is float32 \(9, 12, 12\); float patches \(n, 1 or 3, side, side\) are needed"),
        ((9, 12, 12, 1), (9, 12, 12, 1), {}, r"data is float32 \(9, 12, 12, 1\); float patches"),
        ((9, 1, 12, 11), (9, 1, 12, 11), {}, r"data is float32 \(9, 1, 12, 11\); float patches"),
        ((9, 1, 6, 6), (9, 1, 12, 12), {}, "data 6x6 and label 12x12 do not fit, this network reads enlarged patches"),
        ((9, 3, 12, 12), (9, 3, 12, 12), {}, r"its patches have 3 channel\(s\), the network reads 1; --color rgb reads them"),
        ((9, 1, 14, 14), (9, 1, 14, 14), {}, "its patches have side 14, --patch says 12; leave --patch out"),
        ((9, 1, 12, 12), (9, 1, 12, 12), {"upscale": "inside"}, "do not fit, this network reads enlarged patches"),
        ((9, 1, 12, 12), (9, 1, 12, 12), {"scales": "all"}, "holds patches of scale all, the network is trained for 2 3"),
        ((9, 1, 12, 12), (9, 1, 12, 12), {"scales": [2]}, "holds patches of scale 2, the network is trained for 2 3; --scale 2"),
        ((9, 1, 12, 12), (9, 1, 12, 12), {"scales": [2, 3, 4]}, "of scale 2 3 4, the network is trained for 2 3"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    tmp_path: Path, given: tuple[int, ...], side: tuple[int, ...], told: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "a.h5", given, side, told)
    with pytest.raises(InputError, match=message) as caught:
        PatchSource(config(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "scales", "message"),
    [
        ({}, (3,), "holds patches of scale 2, the network is trained for 3; --scale 2"),
        ({"scales": [3]}, (3,), "holds patches of scale 2, the network is trained for 3; --scale 2"),
        ({"upscale": "before"}, (2,), "data 6x6 and label 12x12 do not fit, this network reads low-resolution patches"),
    ],
)
def test_a_file_for_another_network_that_enlarges_is_one_line(
    tmp_path: Path, told: dict[str, object], scales: tuple[int, ...], message: str
) -> None:
    path = write(tmp_path / "a.h5", (9, 1, 6, 6), (9, 1, 12, 12), told)
    with pytest.raises(InputError, match=message):
        PatchSource(config(path, scales=scales, upscale="inside"))


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((2, 1, 12, 12), np.float32)
        file["target"] = np.zeros((2, 1, 12, 12), np.float32)
    with pytest.raises(
        InputError, match=r"a\.h5: holds no data set 'label' \(it holds data, target\); data and label are needed"
    ):
        PatchFile(tmp_path / "a.h5")


def test_grey_levels_up_to_255_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = file["label"] = np.full((2, 1, 12, 12), 200, np.float32)
    with pytest.raises(
        InputError, match="patch 0 of data has values from 200 to 200, 0 to 1 is needed; divide grey levels by 255"
    ):
        PatchFile(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("name", "message"), [("absent.h5", "No such file"), ("text.h5", "no HDF5 file"), ("cut.h5", "cut short")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text.h5").write_text("no patches")
    write(tmp_path / "whole.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:4000])
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(.*{message}"):
        PatchFile(tmp_path / name)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("sr_deploy.train.data.hdf5_file.import_module", missing)
    with pytest.raises(MachineError, match=r"package h5py is not installed; pip install 'sr-deploy\[hdf5\]'"):
        PatchFile(tmp_path / "a.h5")


def test_a_patch_that_holds_no_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.full((1000, 1, 4, 4), 0.5, np.float32)
        file["label"] = values
        values[517, 0, 2, 2] = np.nan
        file["data"] = values
    with pytest.raises(InputError, match=r"a\.h5: patch 517 of data has values from nan to nan, 0 to 1 is needed"):
        PatchFile(path).read(np.int64(517))


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = h5py.SoftLink("/data")
    with pytest.raises(InputError, match=r"a\.h5: data cannot be opened|holds no data set 'data'"):
        PatchFile(path)

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.train import options
from sr_deploy.train.command import main
from sr_deploy.train.data import damage
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.damage import DAMAGES, damage_patch
from sr_deploy.train.data.pairs import FRACTION, Corner, Planes
from sr_deploy.train.weights import checkpoint
from tests.helpers.batches import equal

ALL = ("blur", "noise", "jpeg")
PLAIN = ["--arch", "plain", "--scale", "2", "--width", "8", "--blocks", "1", "--expand", "0", "--patch", "32"]
PLAIN += ["--batch-size", "4", "--device", "cpu"]


def source(folder: Path, degrade: tuple[str, ...] = ("jpeg",), *, colors: int = 1, workers: int = 1) -> PatchSource:
    return PatchSource(DataConfig((folder,), (2,), 32, (1.0,), 0.0, "inside", colors, degrade=degrade), workers=workers)


def whole_levels(pictures: Path, colors: int) -> NDArray[np.uint8]:
    """Return a part of a photograph with sides that are no multiples of a block: (colors, 75, 101)."""
    with Image.open(pictures / "coffee.png") as image:
        pixels = np.asarray(image.convert("L" if colors == 1 else "RGB"))[180:255, 260:361]
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], colors), -1, 0)


def kept(levels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return full-range levels as low-resolution pictures are kept: luma in studio range."""
    scaled = levels * (219 / 255) + 16 if len(levels) == 1 else levels.astype(np.float64)
    return np.asarray(np.rint(scaled * FRACTION), np.int16)


def full_range(patch: NDArray[np.generic]) -> NDArray[np.float64]:
    levels = np.asarray(patch, np.float64) / FRACTION
    return (levels - 16) * (255 / 219) if len(patch) == 1 else levels


def in_file(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return what another encoder and decoder make of a whole picture: Pillow's, with chroma of half the resolution."""
    stream = io.BytesIO()
    pixels = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream) as image:
        found = np.asarray(image)
    return np.moveaxis(found.reshape(*levels.shape[1:], len(levels)), -1, 0)


def record(monkeypatch: pytest.MonkeyPatch, kind: str, see: Callable[[Planes], None]) -> None:
    """Let ``see`` look at what reaches a kind of damage, and nothing be damaged by it."""

    def damage_of(levels: Planes, rng: np.random.Generator) -> Planes:
        see(levels)
        return levels

    monkeypatch.setitem(DAMAGES, kind, damage_of)


def test_batches_without_damage_are_those_of_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (80, 96, 3), np.uint8)).save(tmp_path / f"{number}.png")
    digest = hashlib.sha256()
    for colors in (1, 3):
        for step in range(2):
            degraded, original, _ = source(tmp_path, (), colors=colors).batch(size=8, seed=5, step=step)
            digest.update(degraded.numpy().tobytes() + original.numpy().tobytes())
    assert digest.hexdigest().startswith("21f198217a39bf1d")  # of the last commit without damage


@pytest.mark.parametrize("colors", [1, 3])
def test_a_damaged_batch_is_the_same_for_the_same_arguments_and_any_workers(photos: Path, colors: int) -> None:
    data, other = source(photos, ALL, colors=colors), source(photos, ALL, colors=colors, workers=3)
    expected = [data.batch(size=6, seed=1, step=step) for step in range(4, 8)]
    assert equal(expected[0], other.batch(size=6, seed=1, step=4))
    assert not torch.equal(expected[0].degraded, data.batch(size=6, seed=2, step=4).degraded)
    for workers in (0, 1, 3):
        batches = other.batches(size=6, seed=1, first_step=4, workers=workers)
        assert all(map(equal, islice(batches, 4), expected))
        batches.close()


@pytest.mark.parametrize("degrade", [("jpeg",), ALL])
def test_half_of_the_patches_are_those_without_damage_and_all_originals(photos: Path, degrade: tuple[str, ...]) -> None:
    clean, found = (source(photos, kinds).batch(size=400, seed=0, step=0) for kinds in ((), degrade))
    assert torch.equal(clean.original, found.original)
    untouched = (clean.degraded == found.degraded).all(dim=(1, 2, 3))
    assert 170 <= int(untouched.sum()) <= 230  # 400 draws, three standard deviations
    assert float((clean.degraded - found.degraded).abs().max()) < 0.5


@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("corner", [(0, 0), (24, 37), (55, 81), (9, 80)])
@pytest.mark.parametrize("quality", [30, 77])
def test_a_patch_is_cut_out_of_what_a_jpeg_file_of_its_picture_holds(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, colors: int, corner: Corner, quality: int
) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    monkeypatch.setattr(damage, "QUALITY", (quality, quality))
    levels = whole_levels(pictures, colors)
    starts = []
    record(monkeypatch, "noise", lambda seen: starts.append(place_of(seen, levels)))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = full_range(damage_patch(kept(levels), corner, 20, kinds=("noise", "jpeg"), rng=rng))
        top, left = starts[-1]  # the file holds all of the picture from there on
        file = in_file(levels[:, top:, left:], quality)
        top, left = corner[0] - top, corner[1] - left
        assert np.allclose(found, file[:, top : top + 20, left : left + 20], atol=1e-3)  # float32; levels are whole


def place_of(seen: Planes, levels: NDArray[np.uint8]) -> Corner:
    """Return where a part of a picture begins."""
    windows = np.lib.stride_tricks.sliding_window_view(levels, seen.shape)[0]
    ((top, left),) = np.argwhere((windows == np.rint(seen)).all(axis=(2, 3, 4)))
    return int(top), int(left)


def test_blocks_lie_anywhere_in_a_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    rows, columns = np.mgrid[:100, :100]
    picture = (np.stack([rows, columns, rows]) * FRACTION).astype(np.int16)  # a pixel tells where it lies
    found = []
    record(monkeypatch, "jpeg", lambda seen: found.append((int(seen[0, 0, 0]), int(seen[1, 0, 0]))))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        damage_patch(picture, (40, 48), 24, kinds=("jpeg",), rng=rng)
    assert {((40 - top) % 8, (48 - left) % 8) for top, left in found} == {
        (row, column) for row in range(8) for column in range(8)
    }


def test_every_quality_from_30_to_95_is_drawn(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def see(levels: Planes, quality: int) -> Planes:
        drawn.append(quality)
        return levels

    monkeypatch.setattr(damage, "through_jpeg", see)
    rng = np.random.default_rng(0)
    picture = kept(whole_levels(pictures, 1))
    for _ in range(3000):
        damage_patch(picture, (20, 20), 16, kinds=("jpeg",), rng=rng)
    assert set(drawn) == set(range(30, 96))
    assert abs(np.mean(drawn) - 62.5) < 1.5  # 1500 draws of a deviation of 19, three standard deviations


def test_luma_is_compressed_in_full_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    for level, expected in ((16.0, 16.0), (235.0, 235.0), (10.0, 16.0), (250.0, 235.0)):  # studio range ends at 16 and 235
        picture = np.full((1, 64, 64), level * FRACTION, np.int16)
        found = (
            np.asarray(damage_patch(picture, (8, 8), 16, kinds=("jpeg",), rng=np.random.default_rng(0)), np.float32) / FRACTION
        )
        assert np.allclose(found, expected, atol=8 * 219 / 255)  # the coarsest step of a flat block, at quality 30, is 27 / 8
        assert found.min() >= 16 - 1e-4 and found.max() <= 235 + 1e-4


def test_kinds_are_applied_in_the_order_of_a_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    order: list[str] = []
    for kind in ALL:
        record(monkeypatch, kind, lambda _, kind=kind: order.append(kind))  # type: ignore[misc]
    damage_patch(np.zeros((1, 40, 40), np.int16), (3, 3), 8, kinds=("jpeg", "blur", "noise"), rng=np.random.default_rng(0))
    assert order == ["blur", "noise", "jpeg"] == list(ALL) == list(options.DAMAGES)


def test_blur_is_slight_and_knows_the_surroundings(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    picture = kept(whole_levels(pictures, 3))
    for seed in range(5):
        parts = [
            damage_patch(picture, c, s, kinds=("blur",), rng=np.random.default_rng(seed))
            for c, s in (((0, 0), 75), ((31, 40), 12))
        ]
        assert np.allclose(parts[0][:, 31:43, 40:52], parts[1], atol=0.05)  # in 1 / 64 level, float32 sums of another order
        assert np.var(picture[:, :, :75]) * 0.5 < np.var(np.asarray(parts[0])) < np.var(picture[:, :, :75])


def test_noise_grows_with_light_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "CLEAN", 0.0)
    deviations = []
    for level in (16, 235):
        picture = np.full((1, 80, 80), level * FRACTION, np.int16)
        rng = np.random.default_rng(0)
        noise = [full_range(damage_patch(picture, (20, 20), 24, kinds=("noise",), rng=rng)) for _ in range(200)]
        deviations.append([float(np.std(patch)) for patch in noise])
        assert abs(np.mean(noise) - (level - 16) * 255 / 219) < 0.05  # 115,200 values of a deviation below 3
    dark, light = map(np.array, deviations)
    assert np.all(light >= dark * 0.9) and np.mean(light) > 1.2 * np.mean(dark)
    assert dark.max() < 2.2 and light.max() < 3.1  # 2 and 2 * sqrt(2) levels, and a tenth for 576 samples


def test_every_scale_of_one_network_is_damaged(photos: Path) -> None:
    config = DataConfig((photos,), (2, 3), 12, (1.0,), 0.0, "inside", one_scale=True)
    clean, data = PatchSource(config), PatchSource(DataConfig((photos,), (2, 3), 12, (1.0,), 0.0, "inside", 1, True, degrade=ALL))
    for step in range(6):
        found, expected = (s.batch(size=16, seed=0, step=step) for s in (data, clean))
        assert found.scale == expected.scale and torch.equal(found.original, expected.original)
        assert not torch.equal(found.degraded, expected.degraded)


def test_a_network_that_enlarges_before_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--degrade jpeg: .* enlarges before; choose another --arch, as plain or edsr"):
        DataConfig((Path(),), (2,), 41, degrade=("jpeg",))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--degrade jpeg rain: not all known; choose among blur, noise, jpeg"):
        DataConfig((Path(),), (2,), 96, upscale="inside", degrade=("jpeg", "rain"))


def test_files_of_patches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--degrade jpeg: for pictures, .*a\.h5 holds patches; leave it out"):
        PatchSource(DataConfig((tmp_path / "a.h5",), (2,), 96, (1.0,), upscale="inside", degrade=("jpeg",)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arch", "vdsr", "--degrade", "jpeg"], "--degrade jpeg: damages low-resolution patches, which networks that enlarge"),
        ([*PLAIN, "--degrade", "rain"], "argument --degrade: invalid choice: 'rain'"),
    ],
)
def test_a_wrong_option_is_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    try:
        code = main([str(photos), "-o", str(tmp_path / "a.safetensors"), "--steps", "1", *more])
    except SystemExit as ended:
        code = int(str(ended.code))
    text = capsys.readouterr().err
    assert code == 2 and message in text and text.count("\n") == 1


def test_a_file_is_neither_prepared_nor_read_with_damage(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    prepare = [str(photos), "--prepare", str(path), "--arch", "edsr", "--scale", "2", "--patch", "32"]
    with pytest.raises(SystemExit, match="2"):
        main([*prepare, "--degrade", "jpeg"])
    assert f"--prepare {path} writes patches and trains nothing; leave --degrade out" in capsys.readouterr().err
    assert main(prepare) == 0
    capsys.readouterr()
    run = [str(path), "-o", str(tmp_path / "a.safetensors"), *PLAIN, "--steps", "1", "--degrade", "noise", "jpeg"]
    assert main(run) == 2
    assert capsys.readouterr().err == f"sr-train: --degrade noise jpeg: for pictures, {path} holds patches; leave it out\n"


def test_the_card_tells_the_damage_and_a_run_goes_on_with_no_other(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    run = [str(photos), "-o", str(output), *PLAIN, "--val", str(photos)]
    assert main([*run, "--steps", "2", "--schedule", "halve", "--degrade", "jpeg", "blur", "jpeg"]) == 0
    assert checkpoint.read_card(output).recipe["data.degrade"] == "blur jpeg"
    capsys.readouterr()
    again = [*run, "--steps", "3", "--schedule", "halve", "--resume"]
    for other, shown in ((["--degrade", "jpeg"], "jpeg"), ([], "None")):
        assert main([*again, *other]) == 2
        assert f"was trained with data.degrade blur jpeg, not {shown}; give the same options to resume" in capsys.readouterr().err
    assert main([*again, "--degrade", "blur", "jpeg"]) == 0
    parts = output.read_bytes()
    assert main([*run, "--steps", "3", "--schedule", "halve", "--degrade", "blur", "jpeg", "--overwrite"]) == 0
    assert output.read_bytes() == parts
    assert main([*run, "--steps", "2", "--overwrite"]) == 0
    assert "data.degrade" not in checkpoint.read_card(output).recipe
    assert main([*run, "--steps", "2", "--degrade", "jpeg", "--resume"]) == 2
    assert "was trained with data.degrade None, not jpeg" in capsys.readouterr().err

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.degrade import Upscale, imresize
from sr_deploy.errors import InputError
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.hr_lr import common_size, list_training_pictures
from sr_deploy.train.data.pairs import FRACTION
from tests.helpers.batches import pictures_of


def shrunk(crop: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    planes = [imresize(crop[..., channel].astype(np.float32), 1.0 / scale) for channel in range(3)]
    return np.clip(np.rint(np.stack(planes, -1)), 0, 255).astype(np.uint8)


@pytest.fixture
def div2k(tmp_path: Path, crops: list[NDArray[np.uint8]]) -> Path:
    """A folder HR of three 60x60 pictures and a folder LR with X2, X3 and X4, named as DIV2K."""
    (tmp_path / "HR").mkdir()
    for number, crop in enumerate(crops, start=1):
        Image.fromarray(crop[:60, :60]).save(tmp_path / "HR" / f"{number:04}.png")
        for scale in (2, 3, 4):
            folder = tmp_path / "LR" / f"X{scale}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shrunk(crop[:60, :60], scale)).save(folder / f"{number:04}x{scale}.png")
    return tmp_path


def config(
    root: Path,
    *scales: int,
    lr: str | None = "LR",
    span: tuple[int, int] | None = None,
    upscale: Upscale = "inside",
    shrink: tuple[float, ...] = (1.0,),
) -> DataConfig:
    several = upscale == "inside" and len(scales) > 1
    folder = None if lr is None else root / lr
    return DataConfig(
        (root / "HR",), scales, 12, shrink, upscale=upscale, colors=3, one_scale=several, lr=folder, span=span
    )  # fmt: skip


def names(root: Path, *scales: int, lr: str = "LR") -> list[str]:
    found = list_training_pictures(config(root, *scales, lr=lr))
    return [picture.lr[scale].relative_to(root).as_posix() for picture in found[:1] for scale in scales]


def test_names_are_those_of_div2k(div2k: Path) -> None:
    assert names(div2k, 2, 3, 4) == ["LR/X2/0001x2.png", "LR/X3/0001x3.png", "LR/X4/0001x4.png"]
    assert names(div2k, 3, lr="LR/X3") == ["LR/X3/0001x3.png"]


def test_equal_names_are_found_in_the_folder_of_a_scale(div2k: Path) -> None:
    for path in (div2k / "LR" / "X2").iterdir():
        path.rename(path.with_name(path.name.replace("x2", "")))
    assert names(div2k, 2) == ["LR/X2/0001.png"]
    assert names(div2k, 2, lr="LR/X2") == ["LR/X2/0001.png"]


def test_another_suffix_and_folders_below_are_found(div2k: Path) -> None:
    (div2k / "HR" / "a").mkdir()
    (div2k / "HR" / "0001.png").rename(div2k / "HR" / "a" / "0001.png")
    (div2k / "LR" / "X2" / "a").mkdir()
    with Image.open(div2k / "LR" / "X2" / "0001x2.png") as image:
        image.save(div2k / "LR" / "X2" / "a" / "0001x2.bmp")
    assert {p.lr[2].relative_to(div2k).as_posix() for p in list_training_pictures(config(div2k, 2))} == {
        "LR/X2/a/0001x2.bmp",
        "LR/X2/0002x2.png",
        "LR/X2/0003x2.png",
    }


def test_an_equal_name_tells_no_scale_when_there_are_several(div2k: Path) -> None:
    for path in (div2k / "LR" / "X2").iterdir():
        path.rename(div2k / "LR" / path.name.replace("x2", ""))
    with pytest.raises(InputError, match=r"LR: holds no x2 picture of .*0001\.png \(looked for 0001x2, X2/0001x2, X2/0001\)"):
        list_training_pictures(config(div2k, 2, 3))


def test_a_missing_low_resolution_picture_is_named(div2k: Path) -> None:
    (div2k / "LR" / "X2" / "0002x2.png").unlink()
    with pytest.raises(InputError, match=r"holds no x2 picture of .*0002\.png .*; add it, name another folder"):
        list_training_pictures(config(div2k, 2))
    assert len(list_training_pictures(config(div2k, 2, span=(3, 3)))) == 1


@pytest.mark.parametrize("upscale", ["before", "inside"])
def test_what_the_network_reads_is_the_picture_in_the_file(div2k: Path, crops: list[NDArray[np.uint8]], upscale: Upscale) -> None:
    pixels = 255 - shrunk(crops[0][:60, :60], 2)  # no bicubic of the original
    Image.fromarray(pixels).save(div2k / "LR" / "X2" / "0001x2.png")
    pair = pictures_of(PatchSource(config(div2k, 2, span=(1, 1), upscale=upscale))).by_scale[2][0]
    planes = [pixels[..., channel].astype(np.float32) for channel in range(3)]
    expected = planes if upscale == "inside" else [imresize(plane, 2.0) for plane in planes]
    assert np.array_equal(np.asarray(pair.degraded[:, :, :]), np.rint(np.stack(expected) * FRACTION))
    assert np.array_equal(np.asarray(pair.original[:, :, :]), np.moveaxis(crops[0][:60, :60], -1, 0))


def test_luma_of_a_low_resolution_picture_stays_unrounded(div2k: Path) -> None:
    data = PatchSource(DataConfig((div2k / "HR",), (2,), 12, (1.0,), upscale="inside", lr=div2k / "LR"))
    kept = np.asarray(pictures_of(data).by_scale[2][0].degraded[:, :, :])
    assert kept.shape == (1, 30, 30)
    assert np.any(kept % FRACTION)


def test_pairs_serve_several_scales_in_one_run(div2k: Path) -> None:
    data = PatchSource(config(div2k, 2, 3, 4))
    found = [data.batch(size=2, seed=0, step=step) for step in range(12)]
    assert {batch.scale for batch in found} == {2, 3, 4}
    assert all(batch.degraded.shape == (2, 3, 12, 12) for batch in found)


def test_other_low_resolution_pictures_are_other_data(div2k: Path) -> None:
    before = PatchSource(config(div2k, 2)).digest
    path = div2k / "LR" / "X2" / "0002x2.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert PatchSource(config(div2k, 2)).digest != before


@pytest.mark.parametrize(
    ("hr", "lr", "common"),
    [
        ((60, 60), (20, 20), (20, 20)),
        ((71, 62), (20, 20), (20, 20)),  # cut to a multiple of 12, then shrunk
        ((61, 60), (21, 20), (20, 20)),  # rounded up by imresize
        ((59, 60), (20, 20), (19, 20)),
    ],
)
def test_sizes_that_fit_have_a_common_part(hr: tuple[int, int], lr: tuple[int, int], common: tuple[int, int]) -> None:
    assert common_size(hr, lr, 3, files=(Path("hr.png"), Path("lr.png"))) == common


@pytest.mark.parametrize(("hr", "lr"), [((72, 60), (20, 20)), ((57, 60), (20, 20)), ((60, 60), (60, 60))])
def test_sizes_that_do_not_fit_are_named(hr: tuple[int, int], lr: tuple[int, int]) -> None:
    shown = (
        rf"lr\.png: {lr[1]}x{lr[0]} pixels is no x3 picture of hr\.png \({hr[1]}x{hr[0]} pixels\), {hr[1] // 3}x{hr[0] // 3} are"
    )
    with pytest.raises(InputError, match=shown):
        common_size(hr, lr, 3, files=(Path("hr.png"), Path("lr.png")))


def test_a_low_resolution_picture_of_another_scale_stops_before_decoding(div2k: Path) -> None:
    for path in (div2k / "LR" / "X3").iterdir():
        path.replace(div2k / "LR" / "X2" / path.name.replace("x3", "x2"))
    with pytest.raises(
        InputError, match=r"0001x2\.png: 20x20 pixels is no x2 picture of .*0001\.png \(60x60 pixels\), 30x30 are"
    ):
        PatchSource(config(div2k, 2))


def test_a_picture_lying_on_its_side_fits(div2k: Path, crops: list[NDArray[np.uint8]]) -> None:
    flat = Image.fromarray(crops[0][:40, :60])
    exif = flat.getexif()
    exif[0x0112] = 6
    for path, picture in ((div2k / "HR" / "0001.png", flat), (div2k / "LR" / "X2" / "0001x2.png", flat.resize((30, 20)))):
        picture.save(path, exif=exif)
    Image.fromarray(np.rot90(np.asarray(flat.resize((30, 20))), -1)).save(div2k / "LR" / "X2" / "0001x2.png")
    pair = pictures_of(PatchSource(config(div2k, 2, span=(1, 1)))).by_scale[2][0]
    assert pair.size == (60, 40)


def test_a_low_resolution_picture_that_does_not_decode_is_left_out(div2k: Path, caplog: pytest.LogCaptureFixture) -> None:
    (div2k / "LR" / "X2" / "0002x2.png").write_bytes(b"no picture")
    assert len(pictures_of(PatchSource(config(div2k, 2))).by_scale[2]) == 2
    assert "left out: " in caplog.text and "0002x2.png: cannot be decoded" in caplog.text


def test_pairs_are_not_shrunk(div2k: Path) -> None:
    with pytest.raises(InputError, match=r"--shrink 1 0\.7: pairs of --lr-dir .*LR are used as they are; leave --shrink out"):
        config(div2k, 2, shrink=(1.0, 0.7))


def test_a_range_takes_pictures_by_position(div2k: Path) -> None:
    assert [p.hr.name for p in list_training_pictures(config(div2k, 2, lr=None, span=(2, 3)))] == ["0002.png", "0003.png"]
    part, only = PatchSource(config(div2k, 2, lr=None, span=(2, 2))), div2k / "only"
    only.mkdir()
    (div2k / "HR" / "0002.png").rename(only / "0002.png")
    same = PatchSource(DataConfig((only,), (2,), 12, (1.0,), upscale="inside", colors=3))
    assert part.digest == same.digest
    assert torch.equal(part.batch(size=2, seed=0, step=0)[0], same.batch(size=2, seed=0, step=0)[0])


def test_a_range_beyond_the_pictures_is_named(div2k: Path) -> None:
    with pytest.raises(InputError, match=r"--range 2-4: .*HR holds 3 pictures; choose among those"):
        list_training_pictures(config(div2k, 2, span=(2, 4)))

"""Calibration: which tiles, which thresholds, and when stored ones are used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import onnx
from PIL import Image

from sr_deploy.card import Shape
from sr_deploy.degrade import Color, Upscale, bicubic_pair, network_pair
from sr_deploy.errors import InputError
from sr_deploy.export import photographs as module
from sr_deploy.export.calibration.activations import activations
from sr_deploy.export.calibration.calibrate import Calibration, calibrate, check_same, read_calibration
from sr_deploy.export.calibration.pictures import CalibrationSet
from sr_deploy.export.graphs.reading import digest_of
from sr_deploy.export.photographs import Cut, Photographs, _Decoded
from sr_deploy.export.sessions import Sessions
from sr_deploy.files import read_bytes
from sr_deploy.planes import read_luma, read_measured, read_seen
from sr_deploy.runtime.upscaling.tiling import tile_corners

SHAPE: Shape = (1, 1, 32, 32)


def tile_set(folder: Path, *, limit: int = 48, scale: int = 2, shape: Shape = SHAPE) -> CalibrationSet:
    return CalibrationSet(Photographs(folder, "y"), Cut((scale,), shape, limit))


def thresholds(model: onnx.ModelProto, tiles: CalibrationSet, *, method: str = "kl-weighted", threads: int = 1) -> Calibration:
    return calibrate(digest_of(model), tiles, activations(model, tiles, Sessions(threads)), method=method)


def test_tiles_are_degraded_luma(photos: Path) -> None:
    for tile in tile_set(photos):
        assert tile.shape == SHAPE and tile.dtype == np.float32
        assert tile.min() > -0.2 and tile.max() < 1.2
    with Image.open(photos / "chelsea.png") as image:
        assert image.size == (96, 80)
    plane = bicubic_pair(read_luma(photos / "chelsea.png"), 2)[0] / np.float32(255.0)
    found = [tile[0, 0] for tile in tile_set(photos)]
    assert any(np.array_equal(tile, plane[:32, :32]) for tile in found)
    assert any(np.array_equal(tile, plane[-32:, -32:]) for tile in found)


def test_tiles_cover_every_picture(photos: Path) -> None:
    assert len(tile_set(photos)) == 2 * 3 * 3  # 96x80 in tiles of 32


@pytest.mark.parametrize("limit", [1, 2, 5, 17, 18, 100])
def test_the_number_of_tiles_is_bounded(photos: Path, limit: int) -> None:
    tiles = tile_set(photos, limit=limit)
    assert len(tiles) == len(list(tiles)) == min(limit, 18)


def test_few_tiles_are_taken_from_every_picture(photos: Path) -> None:
    assert len({digest for digest, *_ in tile_set(photos, limit=2).places}) == 2


def test_order_and_names_change_nothing(fp32: onnx.ModelProto, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    shutil.copy(photos / "chelsea.png", tmp_path / "a.png")
    shutil.copy(photos / "brick.png", tmp_path / "sub" / "z.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert thresholds(fp32, tile_set(tmp_path)) == thresholds(fp32, tile_set(photos))


def test_a_copy_of_a_picture_counts_once(fp32: onnx.ModelProto, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "p")
    shutil.copy(photos / "chelsea.png", tmp_path / "p" / "again.png")
    assert thresholds(fp32, tile_set(tmp_path / "p")) == thresholds(fp32, tile_set(photos))


def test_threads_change_nothing(fp32: onnx.ModelProto, photos: Path) -> None:
    assert thresholds(fp32, tile_set(photos), threads=1) == thresholds(fp32, tile_set(photos), threads=2)


def test_a_batch_changes_nothing_but_the_data_digest(fp32: onnx.ModelProto, photos: Path) -> None:
    pair = next(iter(tile_set(photos, shape=(2, 1, 32, 32))))
    assert pair.shape == (2, 1, 32, 32) and np.array_equal(pair[0], pair[1])


def test_another_picture_changes_thresholds_and_digest(fp32: onnx.ModelProto, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "brick.png", tmp_path / "brick.png")
    ours, theirs = thresholds(fp32, tile_set(tmp_path)), thresholds(fp32, tile_set(photos))
    assert ours.data != theirs.data and ours.thresholds != theirs.thresholds and ours.digest != theirs.digest


def test_methods_give_different_thresholds(fp32: onnx.ModelProto, photos: Path) -> None:
    found = {m: thresholds(fp32, tile_set(photos), method=m) for m in ("kl-weighted", "kl", "minmax", "percentile", "mse")}
    assert len({tuple(c.thresholds.values()) for c in found.values()}) == 5
    assert len({c.digest for c in found.values()}) == 5
    for name, largest in found["minmax"].thresholds.items():
        assert all(0 < c.thresholds[name] <= largest for c in found.values())


def test_minmax_is_the_largest_magnitude_that_pytorch_sees(fp32: onnx.ModelProto, photos: Path, tiny: Path) -> None:
    import torch

    from sr_deploy.train.weights import checkpoint

    network = checkpoint.load(tiny)[0]
    largest: dict[str, float] = {}

    def watch(name: str) -> None:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            largest[name] = max(largest.get(name, 0.0), float(inputs[0].abs().max()))

        network.get_submodule(name).register_forward_pre_hook(hook)

    for name in ("conv1", "conv2", "conv3", "conv4"):
        watch(name)
    with torch.no_grad():
        for tile in tile_set(photos):
            network(torch.from_numpy(tile))
    # float32 sums in another order
    assert thresholds(fp32, tile_set(photos), method="minmax").thresholds == pytest.approx(largest, rel=1e-5)


def test_histograms_count_every_value(fp32: onnx.ModelProto, photos: Path) -> None:
    tiles = tile_set(photos, limit=3)
    found = activations(fp32, tiles, Sessions(1)).histograms
    assert {name: int(h.counts.sum()) for name, h in found.items()} == {
        "conv1": 3 * 32 * 32,
        **{f"conv{n}": 3 * 8 * 32 * 32 for n in (2, 3, 4)},
    }


def test_no_usable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        tile_set(tmp_path)
    Image.new("L", (3, 200)).save(tmp_path / "small.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no usable picture to calibrate on \(.*\); name a folder of photographs with --calib"):
        tile_set(tmp_path)


def test_a_broken_picture_is_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "p")
    (tmp_path / "p" / "broken.png").write_bytes(b"")
    tiles = tile_set(tmp_path / "p")
    assert len(tiles.skipped) == 1 and "broken.png" in tiles.skipped[0]
    assert tiles.digest == tile_set(photos).digest


def test_a_picture_that_cannot_be_read_is_left_out_and_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "p")
    (tmp_path / "p" / "locked.png").write_bytes(b"whatever")

    def read(path: Path, *, advice: str) -> bytes:
        if path.name == "locked.png":
            raise InputError(f"{path}: cannot be read (Permission denied); {advice}")
        return read_bytes(path, advice=advice)

    monkeypatch.setattr("sr_deploy.export.photographs.read_bytes", read)
    tiles = tile_set(tmp_path / "p")
    assert len(tiles.skipped) == 1 and "locked.png" in tiles.skipped[0]
    assert tiles.digest == tile_set(photos).digest


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every picture that a set decodes adds its name."""
    names: list[str] = []
    decode = Photographs._decode

    def counted(photographs: Photographs, path: Path) -> _Decoded:
        names.append(path.name)
        return decode(photographs, path)

    monkeypatch.setattr(Photographs, "_decode", counted)
    return names


def test_of_more_pictures_than_tiles_only_some_are_decoded(tmp_path: Path, decoded: list[str]) -> None:
    for number in range(12):
        Image.effect_noise((64, 64), 20 + number).save(tmp_path / f"{number}.png")
    assert len(tile_set(tmp_path, limit=5)) == len(decoded) == 5


def test_a_picture_is_decoded_once_for_all_scales(photos: Path, decoded: list[str]) -> None:
    tiles = CalibrationSet(Photographs(photos, "y"), Cut((2, 3), SHAPE, 999))
    for _ in range(2):
        assert len(list(tiles)) > 2 * len(decoded) and sorted(decoded) == ["brick.png", "chelsea.png"]


def test_what_does_not_fit_into_memory_is_decoded_again(
    photos: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(tile_set(photos))
    monkeypatch.setattr(module, "HELD_BYTES", 96 * 80)  # one of the two pictures
    del decoded[:]
    tiles = tile_set(photos)
    for number in (1, 2):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(tiles, whole, strict=True))
        assert len(decoded) == 2 + number  # both for their sizes, then the one that is not held


@pytest.mark.parametrize("color", ["y", "rgb"])
@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGB", "P"])
def test_a_held_photograph_is_what_is_read_from_its_file(photos: Path, tmp_path: Path, mode: str, color: Color) -> None:
    with Image.open(photos / "chelsea.png") as image:
        image.convert(mode).save(tmp_path / "p.png")
    photographs = Photographs(tmp_path, color)
    (digest,) = photographs.paths
    for _ in range(2):
        assert np.array_equal(photographs.seen(digest), read_seen(tmp_path / "p.png", color))
        assert np.array_equal(photographs.measured(digest), read_measured(tmp_path / "p.png", color))
    assert photographs.size(digest) == (80, 96)


@pytest.mark.parametrize("upscale", ["before", "inside"])
def test_tiles_are_chosen_by_the_size_that_is_cut(upscale: Upscale, tmp_path: Path) -> None:
    Image.effect_noise((203, 131), 60).save(tmp_path / "p.png")
    tiles = CalibrationSet(Photographs(tmp_path, "y"), Cut((2, 3, 4), (1, 1, 32, 32), 999, upscale))
    plane = read_seen(tmp_path / "p.png", "y")
    sizes = [network_pair(plane, scale, upscale)[0].shape for scale in (2, 3, 4)]
    assert len(tiles) == sum(len(list(tile_corners(size, (32, 32)))) for size in sizes)


def test_some_tiles_are_evenly_chosen(photos: Path) -> None:
    tiles = tile_set(photos)
    everything, some = list(tiles), list(tiles.some(3))
    assert len(some) == 3
    assert np.array_equal(some[0], everything[0]) and np.array_equal(some[-1], everything[-1])


def test_a_picture_smaller_than_a_tile_is_extended(tmp_path: Path) -> None:
    Image.effect_noise((20, 50), 60).save(tmp_path / "p.png")
    tiles = list(tile_set(tmp_path))
    assert len(tiles) == 2
    assert np.array_equal(tiles[0][0, 0, :, 20:], np.repeat(tiles[0][0, 0, :, 19:20], 12, axis=1))


def test_a_layer_that_sees_only_zeros_is_an_error(fp32: onnx.ModelProto, photos: Path) -> None:
    dead = onnx.ModelProto()
    dead.CopyFrom(fp32)
    weight = next(t for t in dead.graph.initializer if t.name == "conv2.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(-np.abs(onnx.numpy_helper.to_array(weight)), "conv2.weight"))
    with pytest.raises(InputError, match=r"conv3: its largest value over the calibration pictures is 0\.0"):
        thresholds(dead, tile_set(photos))


def test_a_grey_picture_is_calibrated_as_its_rgb_copy(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "brick.png") as image:
        assert image.mode == "L"
        for mode in ("L", "RGB"):
            (tmp_path / mode).mkdir()
            image.convert(mode).save(tmp_path / mode / "p.png")
    grey, colour = (list(tile_set(tmp_path / mode)) for mode in ("L", "RGB"))
    assert all(np.array_equal(a, b) for a, b in zip(grey, colour, strict=True))


def test_a_network_that_returns_no_numbers_is_an_error(fp32: onnx.ModelProto, photos: Path) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(fp32)
    weight = next(t for t in broken.graph.initializer if t.name == "conv2.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "conv2.weight"))
    with pytest.raises(InputError, match="is not a finite number on a calibration picture"):
        activations(broken, tile_set(photos), Sessions(1))


def test_a_file_reads_back_equal(fp32: onnx.ModelProto, photos: Path, tmp_path: Path) -> None:
    made = thresholds(fp32, tile_set(photos))
    made.write(tmp_path / "t.json")
    assert read_calibration(tmp_path / "t.json") == made
    assert read_calibration(tmp_path / "t.json").digest == made.digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "7",
        "\xff",
        '{"graph":"a","data":"b","method":"kl","refined":false,"scales":[2],"maxima":{},"thresholds":[1],"shifts":{}}',
    ]
    + [
        f'{{"graph":"a","data":"b","method":"kl","refined":false,"scales":[2],"maxima":{{}},"thresholds":{{"c":{v}}},"shifts":{{}}}}'
        for v in ("0", "-1", "NaN", "Infinity")
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="not a thresholds file") as caught:
        read_calibration(tmp_path / "t.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("field", "what"), [("graph", "graph"), ("data", "calibration pictures"), ("method", "method")])
def test_thresholds_of_something_else_are_refused(photos: Path, field: str, what: str) -> None:
    tiles = tile_set(photos)
    facts = {
        "graph": "sha256:a",
        "data": tiles.digest,
        "method": "kl",
        "refined": False,
        "scales": (2,),
        "maxima": {},
        "thresholds": {"conv1": 1.0},
        "shifts": {},
    }
    same = Calibration(**facts)  # type: ignore[arg-type]
    check_same(same, "sha256:a", tiles, "kl", source="t.json")
    other = Calibration(**{**facts, field: "other"})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"t\.json: made with {what} other, .*; calibrate again without --thresholds"):
        check_same(other, "sha256:a", tiles, "kl", source="t.json")


def test_the_digest_of_the_pictures_holds_scale_and_shape(photos: Path) -> None:
    found = [tile_set(photos), tile_set(photos, scale=3), tile_set(photos, shape=(1, 1, 32, 48)), tile_set(photos, limit=3)]
    assert len({tiles.digest for tiles in found}) == 4


def test_the_file_is_for_people(exported: Path) -> None:
    values = json.loads((exported / "tiny_int8.thresholds.json").read_text())
    assert list(values) == ["graph", "data", "method", "refined", "scales", "maxima", "thresholds", "shifts", "digest"]
    assert list(values["thresholds"]) == ["conv1", "conv2", "conv3", "conv4"]

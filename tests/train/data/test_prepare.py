from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sr_deploy.train.command import main
from sr_deploy.train.data.batches import DataConfig, PatchSource
from sr_deploy.train.data.pairs import FRACTION
from sr_deploy.train.data.picture_patches import PicturePatches
from sr_deploy.train.weights import checkpoint
from tests.helpers.cli import only_line

h5py = pytest.importorskip("h5py")

VDSR = ["--scale", "2", "3", "--patch", "16", "--shrink", "1"]
EDSR = ["--arch", "edsr", "--scale", "2", "--patch", "16", "--color", "rgb"]
SHORT = ["--width", "8", "--batch-size", "2", "--steps", "1", "--device", "cpu"]


def prepare(folder: Path, path: Path, *more: str) -> int:
    return main([str(folder), "--prepare", str(path), *more])


def arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with h5py.File(path) as file:
        return file["data"][()], file["label"][()]


@pytest.mark.parametrize(("options", "stride"), [(VDSR, 16), (VDSR, 5), (EDSR, 16), (EDSR, 6)])
def test_the_file_holds_what_a_run_would_cut(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], stride: int
) -> None:
    path = tmp_path / "out" / "train.h5"
    assert prepare(photos, path, *options, "--stride", str(stride)) == 0
    rgb = options is EDSR
    scales, colors = ((2,), 3) if rgb else ((2, 3), 1)
    config = DataConfig((photos,), scales, 16, (1.0,), 0.0, "inside" if rgb else "before", colors)
    samples = PatchSource(config).samples
    assert isinstance(samples, PicturePatches)
    step, expected = config.step(2), []
    for number in range(3):
        for scale in scales:
            pair = samples.by_scale[scale][number]
            for top in range(0, pair.size[0] - 15, stride):
                for left in range(0, pair.size[1] - 15, stride):
                    low = [slice(n // step, (n + 16) // step) for n in (top, left)]
                    degraded = np.asarray(pair.degraded[:, low[0], low[1]], np.float32) / np.float32(FRACTION * 255)
                    original = np.asarray(pair.original[:, top : top + 16, left : left + 16], np.float32) / np.float32(255)
                    expected.append((degraded, original))
    data, label = arrays(path)
    assert len(data) == len(label) == len(expected)
    assert all(np.array_equal(a, x) and np.array_equal(b, y) for a, b, (x, y) in zip(data, label, expected, strict=True))
    assert capsys.readouterr().out == f"{path}: written; {len(data)} patches of 16x16 from 3 picture(s)\n"


def test_the_file_says_what_it_holds(photos: Path, tmp_path: Path) -> None:
    assert prepare(photos, tmp_path / "a.h5", *VDSR, "--shrink", "1", "0.5", "--stride", "8") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        told = {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
    assert told == {"scales": [2, 3], "colors": 1, "upscale": "before", "patch": 16, "shrink": [1.0, 0.5], "stride": 8}


def test_equal_commands_write_equal_bytes(photos: Path, tmp_path: Path) -> None:
    assert prepare(photos, tmp_path / "a.h5", *VDSR) == 0
    assert prepare(photos, tmp_path / "b.h5", *VDSR, "--workers", "3", "--cache", str(tmp_path / "cache")) == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("options", [VDSR, EDSR])
def test_a_network_is_trained_on_the_file(photos: Path, tmp_path: Path, options: list[str]) -> None:
    path, output = tmp_path / "train.h5", tmp_path / "a.safetensors"
    assert prepare(photos, path, *options) == 0
    network = [option for option in options if option not in ("--patch", "16", "--shrink", "1")]
    more = ["--blocks", "1"] if options is EDSR else []
    assert main([str(path), "-o", str(output), *network, *SHORT, *more]) == 0
    facts = {name: value for name, value in checkpoint.read_card(output).recipe.items() if name.startswith("data.")}
    assert facts == {
        "data.folders": "train.h5",
        "data.scales": " ".join(network[network.index("--scale") + 1 :][: 2 if options is VDSR else 1]),
        "data.patch": "16",
    }
    resumed = [str(path), "-o", str(output), *network, *SHORT, *more, "--resume", "--steps", "2"]
    assert main(resumed) == 0
    assert prepare(photos, path, *options, "--stride", "8", "--overwrite") == 0
    assert main(resumed) == 2


def test_a_range_and_given_pictures_can_be_prepared(photos: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    lr.mkdir()
    Image.new("RGB", (32, 32), (10, 20, 30)).save(lr / "1x2.png")
    assert prepare(photos, tmp_path / "a.h5", *EDSR, "--lr-dir", str(lr), "--range", "2-2") == 0
    data, label = arrays(tmp_path / "a.h5")
    assert data.shape == (16, 3, 8, 8) and label.shape == (16, 3, 16, 16)
    assert np.array_equal(data[:, :, 0, 0] * np.float32(255), np.tile(np.array([10, 20, 30], np.float32), (16, 1)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prepare", "a.txt"], "--prepare a.txt: a file of patches ends in .h5 or .hdf5, this one in .txt"),
        (["--prepare", "a.h5", "--patch", "65"], "no picture of at least 65x65 pixels; name other folders"),
        (
            ["--prepare", "a.h5", "--range", "1-2/3-3"],
            "--range 1-2/3-3: --prepare a.h5 validates nothing; give one part, as 1-800",
        ),
        (["--prepare", "a.h5", *EDSR, "--stride", "5"], "--stride 5 is no multiple of the scale 2; choose one"),
    ],
)
def test_a_wrong_option_is_one_line(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(photos), *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "the following arguments are required: -o/--output"),
        (
            ["--prepare", "a.h5", "-o", "b.safetensors"],
            "--prepare a.h5 writes patches and trains nothing; leave -o b.safetensors out",
        ),
        (["-o", "b.safetensors", "--stride", "3"], "--stride 3 belongs to --prepare FILE.h5"),
    ],
)
def test_options_that_exclude_each_other_are_one_line(
    photos: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(photos), *more])
    assert message in only_line(capsys, "sr-train")


def test_an_existing_file_is_kept(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    assert prepare(photos, path, *VDSR) == 2
    assert "a.h5: exists already; add --overwrite to replace it, or choose another name" in only_line(capsys, "sr-train")
    assert path.read_bytes() == b"precious"
    assert prepare(photos, path, *VDSR, "--overwrite") == 0
    assert path.read_bytes() != b"precious"


def test_a_disk_that_is_too_small_is_told_first(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("sr_deploy.train.data.prepare.shutil.disk_usage", lambda _: usage)
    assert prepare(photos, tmp_path / "a.h5", *VDSR) == 3
    # 4x4 patches of 16x16 of each of 3 pictures at 2 scales, the original and the degraded one; at x3 3x3 are written
    expected = "a.h5: 96 patches take 0.0 GB, 0.0 GB are free; choose a larger --stride, or fewer pictures with --range"
    assert expected in only_line(capsys, "sr-train")


def test_a_failure_leaves_what_was_there(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    assert prepare(photos, path, *VDSR) == 0
    before = path.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sr_deploy.train.data.prepare.rows_of_patches", stop)
    assert prepare(photos, path, *VDSR, "--overwrite") == 130
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "photos"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr-dir", "here"], "--lr-dir here: for pictures, {} holds patches; leave it out"),
        (["--range", "1-2"], "--range 1-2: for pictures"),
        (["--shrink", "1"], "--shrink 1.0: for pictures"),
        (["--detail", "0.5"], "--detail 0.5: for pictures"),
        (["--cache", "here"], "--cache here: for pictures"),
        (["--patch", "17"], "{}: its patches have side 16, --patch says 17; leave --patch out"),
        (["--scale", "2", "3", "3"], "--scale 2 3 3: patches of {} are drawn evenly; name each scale once"),
        (["--color", "rgb"], "{}: its patches have 1 channel(s), the network reads 3; --color y reads them"),
    ],
)
def test_options_for_pictures_are_refused_with_patches(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    path = tmp_path / "train.h5"
    assert prepare(photos, path, *VDSR) == 0
    capsys.readouterr()
    assert main([str(path), "-o", str(tmp_path / "a.safetensors"), "--scale", "2", "3", *SHORT, *more]) == 2
    assert message.format(path) in only_line(capsys, "sr-train")


def test_pictures_and_patches_are_not_mixed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.h5"
    assert prepare(photos, path, *VDSR) == 0
    capsys.readouterr()
    for paths in ([photos, path], [path, photos]):
        assert main([*map(str, paths), "-o", str(tmp_path / "a.safetensors"), *SHORT]) == 2
        assert f"{photos}: not an HDF5 file as {path} is; name the one kind or the other" in only_line(capsys, "sr-train")


def test_a_file_for_networks_of_several_scales_that_enlarge_is_refused(photos: Path) -> None:
    from sr_deploy.errors import InputError
    from sr_deploy.train.data.prepare import Grid

    config = DataConfig((photos,), (2, 3), 8, (1.0,), upscale="inside", one_scale=True)
    with pytest.raises(InputError, match="--prepare with --scale 2 3: patches differ in size where the network enlarges"):
        Grid(config, 8)


def test_grey_batches_of_the_file_are_in_zero_to_one(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.h5"
    assert prepare(photos, path, *VDSR) == 0
    _, original, _ = PatchSource(DataConfig((path,), (2, 3), 16, (1.0,))).batch(size=50, seed=0, step=0)
    assert float(original.min()) >= 16 / 255 - 1e-6 and float(original.max()) <= 235 / 255 + 1e-6
    assert original.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_disk_that_fills_is_one_line_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    command = [
        str(photos),
        "--prepare",
        str(tmp_path / "p.h5"),
        "--arch",
        "edsr",
        "--scale",
        "2",
        "--patch",
        "32",
        "--stride",
        "4",
    ]
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000)); "
        f"from sr_deploy.train.command import main; sys.exit(main({command!r}))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert found.returncode == 3  # a signal here would be HDF5's library, which falls over what it could not write
    assert found.stderr.count("\n") == 1 and "p.h5: writing failed (File too large); nothing was changed" in found.stderr
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("option", [("--resume",), ("--init-from", "a.safetensors"), ("--val", "b")])
def test_what_belongs_to_training_is_refused(option: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "--prepare", str(tmp_path / "p.h5"), *option])
    assert caught.value.code == 2 and f"trains nothing; leave {option[0]} out" in capsys.readouterr().err

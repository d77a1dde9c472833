"""``export`` from Python: what it returns, that it prints nothing, and how often it opens a photograph."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from PIL import Image

from sr_deploy.calib_data import folder
from sr_deploy.errors import InputError
from sr_deploy.export import ExportOptions, export
from sr_deploy.progress import Step

OPENINGS = """
import sys
from sr_deploy.export.command import main
places = sys.argv[1].split(":")
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).startswith(tuple(places)) and print("opened", args[0]))
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def select(tmp_path: Path) -> Path:
    """Return a folder with parts of two photographs to measure on."""
    (tmp_path / "select").mkdir()
    for name in ("camera.png", "gravel.png"):
        with Image.open(folder("select") / name) as image:
            image.crop((200, 100, 272, 164)).save(tmp_path / "select" / name)
    return tmp_path / "select"


def test_an_export_returns_what_it_made_and_prints_nothing(
    tiny: Path, photos: Path, select: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[Step] = []
    options = ExportOptions(
        tmp_path / "out", shape=(1, 1, 32, 32), calib=photos, max_drop_db=5.0, sensitivity=True, select=select, threads=1
    )
    result = export(tiny, options, progress=steps.append)
    assert capfd.readouterr() == ("", "")
    assert {step.label for step in steps} > {"calibrating", "reading", "bias correction", "conv1"}
    assert all(path.is_file() and path.parent == options.output for path in result.graphs.values())
    assert list(result.graphs) == ["fp32", "fp16", "int8"]
    assert result.card.halo == 4 and result.useful_share == pytest.approx(24**2 / 32**2)
    assert result.int8_layers == {"conv1": "fp32", "conv2": "int8", "conv3": "int8", "conv4": "fp32"}
    assert result.int8_share == pytest.approx(16 / 18)
    assert result.decision is not None and result.decision.fits and set(result.decision.drop_db) == {2, 3}
    assert [loss.name for loss in result.losses] == list(result.int8_layers)
    with pytest.raises(FrozenInstanceError):
        result.useful_share = 1.0  # type: ignore[misc]


def test_one_precision_returns_one_graph(tiny: Path, photos: Path, tmp_path: Path) -> None:
    result = export(tiny, ExportOptions(tmp_path, precisions=("fp32",), shape=(1, 1, 32, 32), calib=photos))
    assert result.graphs == {"fp32": tmp_path / "tiny_fp32.onnx"}
    assert (result.int8_layers, result.int8_share, result.decision, result.losses) == ({}, None, None, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precisions": ("int4",)}, r"precisions='int4': not one of fp32, fp16, int8"),
        ({"method": "median"}, r"method='median': not one of kl-weighted, kl"),
        ({"scale": 0}, r"scale=0: not a number above 0"),
        ({"calib_tiles": 0}, r"calib_tiles=0: not a number above 0"),
        ({"select_tiles": -1}, r"select_tiles=-1: not a number above 0"),
        ({"max_drop_db": float("nan")}, r"max_drop_db=nan: not a number above 0"),
        ({"threads": 257}, r"threads=257: not within 1 to 256"),
        ({"select": Path("x")}, r"--select x: nothing is measured on it; add --max-drop DB or --sensitivity"),
        (
            {"max_drop_db": 0.1, "precisions": ("fp32",)},
            r"--max-drop 0\.1: the accuracy guard is for int8; add int8 to --precision",
        ),
    ],
)
def test_options_that_cannot_be_are_rejected_with_their_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExportOptions(Path("out"), **change)  # type: ignore[arg-type]


def test_a_photograph_is_opened_twice(tiny: Path, photos: Path, select: Path, tmp_path: Path) -> None:
    command = [str(tiny), "-o", str(tmp_path / "out"), "--shape", "1", "1", "32", "32", "--calib", str(photos)]
    guard = ["--select", str(select), "--max-drop", "5", "--sensitivity", "--threads", "1"]
    script = [sys.executable, "-c", OPENINGS, f"{photos}:{select}"]
    done = subprocess.run([*script, *command, *guard], capture_output=True, text=True, check=True)
    assert "guard: tiles: drop" in done.stdout
    found = Counter(line.removeprefix("opened ") for line in done.stdout.splitlines() if line.startswith("opened "))
    # Once for its digest and once to decode it: calibration, refinement, sensitivity, the guard, two scales and three precisions.
    assert found == {str(path): 2 for place in (photos, select) for path in place.glob("*.png")}

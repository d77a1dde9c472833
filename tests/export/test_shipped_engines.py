"""The engines that ship are what ``sr-export`` makes of the committed weights, thresholds and decisions, byte for byte."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from sr_deploy.export.command import main
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.engines.shipped import Shipped, shipped_engines


@pytest.mark.slow
@pytest.mark.parametrize("engine", shipped_engines(), ids=lambda e: e.name)
def test_an_export_gives_the_shipped_engine(engine: Shipped, root: Path, tmp_path: Path) -> None:
    card = read_card(engine.path())
    here = {name: importlib.metadata.version(name) for name in card.versions}
    if here != card.versions:
        pytest.skip(f"was made with {card.versions}, here are {here}")
    checkpoint = root / "train" / "pretrained" / f"{engine.name.removesuffix('_int8')}.safetensors"
    options = ["--precision", "int8", "--max-drop", str(card.guard["max_drop_db"])]
    if checkpoint.stem == "vdsr_pruned_qat":  # the thresholds that it learned are not what ships
        options += ["--method", str(card.calibration), "--refine", "--correct-bias", "--keep", "conv20"]
    assert main([str(checkpoint), "-o", str(tmp_path), *options]) == 0
    assert (tmp_path / f"{engine.name}.onnx").read_bytes() == engine.path().read_bytes()

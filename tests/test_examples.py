"""The examples run as they are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.slow
def test_the_pipeline_from_python(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "examples/pipeline.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    stages, verdict = done.stdout.splitlines()
    assert stages.startswith("dense: 56964 weights, pruned: ") and verdict.startswith("int8: ") and done.stderr == ""
    with Image.open(root / "tests/pictures/coffee.png") as before, Image.open(tmp_path / "coffee_x2.png") as after:
        assert after.size == (2 * before.width, 2 * before.height)

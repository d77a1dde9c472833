"""The examples run as they are printed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
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


def test_frames_of_a_video(root: Path, tmp_path: Path) -> None:
    before, after = str(tmp_path / "before.avi"), str(tmp_path / "after.mp4")
    writer = cv2.VideoWriter(before, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24))
    for level in (0, 100, 200):
        writer.write(np.full((24, 32, 3), level, np.uint8))
    writer.release()
    subprocess.run([sys.executable, str(root / "examples/camera.py"), before, after], check=True)
    found = cv2.VideoCapture(after)
    frames = [frame for worked, frame in (found.read() for _ in range(3)) if worked]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    np.testing.assert_allclose([frame.mean() for frame in frames], [0, 100, 200], atol=6)  # what the codec loses


def test_a_server(root: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(content, "PNG")
    server = subprocess.Popen([sys.executable, str(root / "examples/server.py"), "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        with urlopen(url, content.getvalue()) as answer, Image.open(io.BytesIO(answer.read())) as after:
            assert after.size == (40, 20)
    finally:
        server.kill()
        server.communicate()

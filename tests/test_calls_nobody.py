"""Nothing calls home: what a process that enlarges a picture has opened, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENLARGE = """
import json, os
import numpy as np
from sr_deploy import Upscaler
from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.picture import Picture
deep = np.zeros((40, 40, 3), np.uint16)
assert encode("tiff", [deep], Picture(deep))  # by libvips
with Upscaler() as upscaler:
    upscaler.upscale(np.zeros((40, 40), np.uint8))
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass  # the folder's own
    print(json.dumps(names))
"""


def left_behind(home: Path, **variables: str) -> list[str]:
    """Return the files and sockets that a process has open after it enlarged a picture, and the files it left at home."""
    theirs = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", ENLARGE],
        env={**theirs, "HOME": str(home), **variables},
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    opened = [name for name in json.loads(done.stdout) if name.startswith("socket:") or name.startswith(str(home))]
    return sorted({*opened, *(str(path) for path in home.rglob("*") if path.is_file())})


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at /proc")
def test_enlarging_a_picture_opens_no_socket_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at /proc")
def test_the_check_sees_telemetry_that_is_on(tmp_path: Path) -> None:
    found = left_behind(tmp_path, ORT_DISABLE_TELEMETRY="0")
    if not found:
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert any("onnxruntime" in name for name in found)

"""A photograph on its way through ``sr-infer`` is opened twice: for the name of its result, and to be enlarged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_deploy.runtime.pictures.encode import encode
from sr_deploy.runtime.pictures.picture import Picture
from sr_deploy.runtime.pictures.samples import Pixels
from tests.runtime.command_runs import environment

COUNTED = """
import json, os, sys
names, opened = set(sys.argv[1].split(":")), {}
def count(event, args):
    if event == "open" and not isinstance(args[0], int):
        name = os.fsdecode(args[0])
        if name in names:
            opened[name] = opened.get(name, 0) + 1
sys.addaudithook(count)
from sr_deploy.runtime.infer.command import main
code = main(sys.argv[2:])
print(json.dumps(opened), file=sys.stderr)
sys.exit(code)
"""


def pictures_in(folder: Path) -> list[Path]:
    """Return one picture of each kind, a deep PNG and a float TIFF among them."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    paths = [folder / name for name in ("a.png", "b.jpg", "c.webp", "d.tif", "e.bmp", "f.gif")]
    for path in paths:
        Image.fromarray(pixels).save(path)
    deep: dict[str, Pixels] = {"g.png": pixels.astype(np.uint16) * 257, "h.tif": pixels.astype(np.float32) / np.float32(255.0)}
    for name, samples in deep.items():
        (folder / name).write_bytes(b"".join(encode(Path(name).suffix[1:].replace("tif", "tiff"), [samples], Picture(samples))))
    return [*paths, *(folder / name for name in deep)]


@pytest.mark.parametrize("options", [(), ("--frames",), ("--format", "png")])
def test_a_picture_is_opened_twice_at_most(identity_file: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    paths = pictures_in(tmp_path)
    line = [sys.executable, "-c", COUNTED, ":".join(map(str, paths)), "--engine", str(identity_file), "--scale", "1"]
    line += ["--threads", "1", "-o", str(tmp_path / "out"), *options, *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stderr.splitlines()[-1])
    assert set(opened) == set(map(str, paths))  # the count sees them
    assert max(opened.values()) <= (1 if "--format" in options else 2), opened

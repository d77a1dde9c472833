"""Details of a photograph, enlarged in several ways beside the original: the README's picture, and that of JPEG files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sr_deploy.degrade import crop_to_multiple, imresize
from sr_deploy.files import replacing
from sr_deploy.runtime.pictures.read import read_pixels

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH, ZOOM, GAP, CAPTION = "tests/pictures/china.jpg", 2, 8, 22
Pixels = NDArray[np.uint8]
"""A picture: uint8 (h, w, 3), R, G, B."""


def resized(pixels: Pixels, factor: float) -> Pixels:
    """Return a picture resized by MATLAB's bicubic, in whole grey levels."""
    planes = [imresize(pixels[..., c].astype(np.float32), factor) for c in range(3)]
    return np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


def enlarged(source: Path, scale: int, *options: str) -> Pixels:
    """Return what ``sr-infer`` makes of a file."""
    result = source.with_name("large.png")
    command = [sys.executable, "-m", "sr_deploy.runtime.infer.command", "--scale", str(scale), str(source), "-o", str(result)]
    subprocess.run([*command, "--overwrite", *options], check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(result).convert("RGB"))


def write_sheet(target: Path, panels: Mapping[str, Pixels], box: tuple[int, int, int, int]) -> None:
    """Write the detail ``box`` (left, top, right, bottom) of each picture side by side, named below."""
    width, height = (box[2] - box[0]) * ZOOM, (box[3] - box[1]) * ZOOM
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, picture) in enumerate(panels.items()):
        detail = Image.fromarray(picture).crop(box).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(detail, (number * (width + GAP), 0))
        draw.text((number * (width + GAP) + 4, height + 5), label, fill="black")
    with replacing(target) as temporary:
        sheet.save(temporary, format="PNG")


def main() -> None:
    """Shrink the photograph, enlarge it again, write ``docs/before_after.png`` and ``docs/jpeg_files.png``."""
    pixels = np.asarray(crop_to_multiple(np.moveaxis(read_pixels(ROOT / PHOTOGRAPH), -1, 0), 4).transpose(1, 2, 0), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "small.png"
        Image.fromarray(resized(pixels, 1 / 4)).save(source)
        panels = {
            "bicubic x4": resized(resized(pixels, 1 / 4), 4.0),
            "sr-infer --scale 4": enlarged(source, 4),
            "original": pixels,
        }
        write_sheet(ROOT / "docs/before_after.png", panels, (170, 110, 330, 250))
        source = Path(name) / "small.jpg"
        Image.fromarray(resized(pixels, 1 / 2)).save(source, quality=50)
        panels = {
            "bicubic x2 of a JPEG, quality 50": resized(np.asarray(Image.open(source)), 2.0),
            "sr-infer": enlarged(source, 2),
            "sr-infer --engine photo": enlarged(source, 2, "--engine", "photo"),
            "original": pixels,
        }
        write_sheet(ROOT / "docs/jpeg_files.png", panels, (180, 130, 320, 250))


if __name__ == "__main__":
    main()

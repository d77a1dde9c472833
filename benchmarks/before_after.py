"""The README's picture: a detail of a photograph, bicubic beside the default engine beside the original."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sr_deploy.degrade import crop_to_multiple, imresize
from sr_deploy.files import replacing
from sr_deploy.runtime.pictures.read import read_pixels

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH, BOX, SCALE, ZOOM = "tests/pictures/china.jpg", (170, 110, 330, 250), 4, 2


def main() -> None:
    """Shrink the photograph, enlarge it again both ways, write ``docs/before_after.png``."""
    pixels = read_pixels(ROOT / PHOTOGRAPH)
    planes = [crop_to_multiple(pixels[..., c].astype(np.float32), SCALE) for c in range(3)]
    small = np.stack([np.clip(np.rint(imresize(p, 1.0 / SCALE)), 0, 255) for p in planes], axis=-1).astype(np.uint8)
    bicubic = np.stack(
        [np.clip(np.rint(imresize(small[..., c].astype(np.float32), float(SCALE))), 0, 255) for c in range(3)], axis=-1
    )
    with tempfile.TemporaryDirectory() as name:
        Image.fromarray(small).save(f"{name}/small.png")
        infer = [
            sys.executable,
            "-m",
            "sr_deploy.runtime.infer.command",
            "--scale",
            str(SCALE),
            f"{name}/small.png",
            "-o",
            f"{name}/large.png",
        ]
        subprocess.run(infer, check=True, stdout=subprocess.DEVNULL)
        ours = np.asarray(Image.open(f"{name}/large.png"))
    panels = {f"bicubic x{SCALE}": bicubic.astype(np.uint8), f"sr-infer --scale {SCALE}": ours, "original": pixels}
    width, height = (BOX[2] - BOX[0]) * ZOOM, (BOX[3] - BOX[1]) * ZOOM
    sheet = Image.new("RGB", (len(panels) * (width + 8) - 8, height + 22), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, picture) in enumerate(panels.items()):
        detail = Image.fromarray(picture).crop(BOX).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(detail, (number * (width + 8), 0))
        draw.text((number * (width + 8) + 4, height + 5), label, fill="black")
    with replacing(ROOT / "docs/before_after.png") as temporary:
        sheet.save(temporary, format="PNG")


if __name__ == "__main__":
    main()

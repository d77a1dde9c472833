"""Luma PSNR of pictures that were JPEG files before they are enlarged, by their quality: a table and ``photographs.json``.

``python benchmarks/photographs.py MODEL... --data DIR... [--scale 2 4] [--quality clean 95 90 75 50 30]``

A high-resolution picture is shrunk by MATLAB's bicubic, rounded to 8 bits, written as JPEG (Pillow, chroma of half the
resolution, in memory) and read again; ``clean`` leaves JPEG out. Then it is enlarged as ``sr-infer`` does: a luma network gets
luma, and chroma is enlarged by bicubic. The result is in 8 bits as well. Luma of result and original is compared unrounded, in
studio range, with as many pixels shaved as the scale. So ``clean`` may differ a little from ``sr-eval``, which rounds neither
the low-resolution picture nor colours. A checkpoint runs on the whole picture, mirrored at its edges as for an engine; int8
is computed with exact sums, the same on every processor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.console import run, table
from sr_deploy.degrade import given_size, imresize
from sr_deploy.errors import InputError
from sr_deploy.files import CHECKPOINT_SUFFIXES, check_reports, list_pictures, write_text
from sr_deploy.gate.models import CheckpointEngine, network_at, open_checkpoint
from sr_deploy.luma import luma_from_rgb
from sr_deploy.measure import psnr
from sr_deploy.options import positive_int, thread_count
from sr_deploy.planes import read_rgb
from sr_deploy.progress import progress
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.bench.machine import machine
from sr_deploy.runtime.engines.shipped import engine_file
from sr_deploy.runtime.upscaling.upscaling import Pixels, upscale

ROOT = Path(__file__).resolve().parent.parent
CLEAN = "clean"
QUALITIES = (CLEAN, "95", "90", "75", "50", "30")

Enlarge = Callable[[Pixels, int], Pixels]
"""From a small picture, uint8 (h, w, 3) in R, G, B, and a scale to one ``scale`` times as large."""


@dataclass(frozen=True)
class Row:
    """One model on one folder at one scale."""

    model: str
    data: str
    images: int
    scale: int
    psnr_db: dict[str, float]  # mean, by quality


def resized(pixels: Pixels, scale: float) -> Pixels:
    """Return ``pixels`` resized by MATLAB's bicubic, rounded to 8 bits."""
    planes = imresize(np.moveaxis(pixels, -1, 0).astype(np.float32), scale)
    return np.moveaxis(np.clip(np.rint(planes), 0, 255).astype(np.uint8), 0, -1)


def photograph(pixels: Pixels, quality: str) -> Pixels:
    """Return what a JPEG file of ``pixels`` holds; of ``clean``, what it is."""
    if quality == CLEAN:
        return pixels
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(stream) as image:
        return np.asarray(image)


def opened(name: str, threads: int | None, stack: ExitStack) -> tuple[Enlarge, tuple[int, ...]]:
    """Return how a model enlarges a picture, and its scales, the default one first (none: it serves all).

    Raises:
        InputError: no such model.
    """
    if name == "bicubic":
        return resized, ()
    path = Path(name)
    if path.suffix in CHECKPOINT_SUFFIXES:
        network, card = open_checkpoint(path, threads=threads)

        def whole(pixels: Pixels, scale: int) -> Pixels:
            one, at_scale = network_at(network, card, scale)
            h, w = given_size((pixels.shape[0] * scale, pixels.shape[1] * scale), scale, card.upscale)
            halo = one.halo()  # the mirrored picture is one tile
            shape = (1, 3 if card.color == "rgb" else 1, h + 2 * halo, w + 2 * halo)
            return upscale(CheckpointEngine(one, at_scale.with_changes(halo=halo), shape), pixels, scale)

        return whole, (card.default_scale, *card.scales)
    engine = stack.enter_context(closing(load(engine_file(path), threads=threads, exact=True)))
    return lambda pixels, scale: upscale(engine, pixels, scale), (engine.card.default_scale, *engine.card.scales)


def psnr_db(enlarge: Enlarge, paths: Sequence[Path], scale: int, qualities: Sequence[str], label: str) -> dict[str, float]:
    """Return the mean luma PSNR over pictures, by quality.

    Raises:
        InputError: a picture does not decode, or is too small.
    """
    found: dict[str, list[float]] = {quality: [] for quality in qualities}
    with progress(label, len(paths)) as advance:
        for path in paths:
            pixels = read_rgb(path)
            h, w = (n - n % scale for n in pixels.shape[:2])
            if min(h, w) <= 2 * scale:
                raise InputError(f"{path}: {w}x{h} pixels is too small to measure at x{scale}; leave it out of the folder")
            hr = pixels[:h, :w]
            lr = resized(hr, 1.0 / scale)
            for quality in qualities:
                sr = enlarge(photograph(lr, quality), scale)
                found[quality].append(psnr(luma_from_rgb(sr), luma_from_rgb(hr), shave=scale))
            advance()
    return {quality: float(np.mean(values)) for quality, values in found.items()}


def scales_of(name: str, served: tuple[int, ...], asked: Sequence[int] | None) -> list[int]:
    """Return at which scales to measure a model: those of ``asked`` that it serves, or its default one.

    Raises:
        InputError: it serves none of them.
    """
    if not asked:
        return [served[0] if served else 2]
    found = [scale for scale in asked if not served or scale in served]
    if not found:
        shown = " ".join(map(str, asked)), ", ".join(map(str, sorted(set(served))))
        raise InputError(f"--scale {shown[0]}: {name} serves {shown[1]}; name one of them, or leave the model out")
    return found


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Return the figures of every model, folder and scale."""
    folders = {folder: list_pictures(folder) for folder in arguments.data}
    check_reports(
        {"--json": arguments.json}, [*map(Path, arguments.models), *(path for paths in folders.values() for path in paths)]
    )
    rows: list[Row] = []
    for name in arguments.models:
        with ExitStack() as stack:
            enlarge, served = opened(name, arguments.threads, stack)
            label = Path(name).name
            for scale in scales_of(name, served, arguments.scale):
                for folder, paths in folders.items():
                    figures = psnr_db(enlarge, paths, scale, arguments.quality, f"{label} x{scale}")
                    rows.append(Row(label, folder.name, len(paths), scale, figures))
    return rows


def quality(text: str) -> str:
    """Return ``text`` as a quality: ``clean``, or 1 to 100."""
    if text != CLEAN and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is not {CLEAN}, nor a quality from 1 to 100")
    return text


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write ``photographs.json``."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", metavar="MODEL", help="bicubic, a checkpoint, an engine, or the name of one that ships")
    p.add_argument("--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of high-resolution pictures")
    p.add_argument("--scale", nargs="+", type=positive_int, metavar="N", help="where a model serves it (default: the model's)")
    p.add_argument(
        "--quality", nargs="+", type=quality, default=list(QUALITIES), metavar="Q", help="default: clean 95 90 75 50 30"
    )
    p.add_argument("--threads", type=thread_count, metavar="N", help="threads that compute (default: all cores)")
    p.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "photographs.json", metavar="FILE")
    arguments = p.parse_args(argv)

    def command() -> int:
        rows = measure(arguments)
        heading = ["luma PSNR, dB", "data", "scale", *arguments.quality]
        lines = [[r.model, r.data, f"x{r.scale}", *(f"{value:.2f}" for value in r.psnr_db.values())] for r in rows]
        print(table([heading, *lines], markdown=True, left=2))
        write_text(arguments.json, json.dumps({"machine": machine(), "results": [asdict(row) for row in rows]}, indent=2) + "\n")
        return 0

    return run("photographs.py", command)


if __name__ == "__main__":
    sys.exit(main())

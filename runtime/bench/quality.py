"""Quality of engines in a benchmark: mean PSNR over whole pictures, through the engine's tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sr_deploy.card import check_scale
from sr_deploy.degrade import Planes, imresize
from sr_deploy.errors import InputError
from sr_deploy.measure import bicubic, mean, score
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.upscaling.tiling import run_picture

MEASURED_SIDE = 11  # pixels that SSIM needs


def check_measurable(name: str, engine: Engine, pictures: Mapping[Path, Planes], scale: int | None) -> None:
    """Check before anything is timed that every picture can be measured.

    Raises:
        InputError: the engine does not serve the scale, or a picture is too small for it.
    """
    chosen = check_scale(engine.card, scale, source=name)
    least = MEASURED_SIDE + 3 * chosen  # cut to a multiple of the scale, and shaved by it on both sides
    for path, original in pictures.items():
        h, w = original.shape[-2:]
        if min(h, w) < least:
            raise InputError(f"{path}: {w}x{h} pixels is too small to measure at x{chosen}, {least} are needed; leave it out")


def mean_db(name: str, engine: Engine, pictures: Sequence[Planes], scale: int | None) -> float | None:
    """Return the mean PSNR in dB of an engine through its tiles, ``None`` without pictures (luma or RGB in grey levels)."""
    if not pictures:
        return None
    chosen = check_scale(engine.card, scale, source=name)

    def enlarge(lr: Planes, factor: int) -> Planes:
        given = imresize(lr, float(factor)) if engine.card.upscale == "before" else lr
        return run_picture(engine, given)

    return mean([score(enlarge, hr, chosen) for hr in pictures]).psnr_db


def bicubic_db(pictures: Sequence[Planes], scale: int) -> float:
    """Return the mean PSNR in dB of bicubic enlargement."""
    return mean([score(bicubic, hr, scale) for hr in pictures]).psnr_db

"""A picture through an engine: luma by the network, colour and transparency by bicubic, band by band.

Beside the picture and the result only one band of tiles is held. A grey picture is treated as its RGB copy: its samples
are brought to studio range and back (BT.601), so that grey and colour pictures meet the network in the range it knows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Plane, enlarge_band
from sr_deploy.errors import InputError
from sr_deploy.luma import rgb_from_ycbcr, ycbcr_from_rgb
from sr_deploy.runtime.engine import Engine
from sr_deploy.runtime.tiling import Planes, run_bands

Pixels = NDArray[np.uint8]
"""A picture: uint8 (h, w, c); c is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""


def check_scale(card: ModelCard, scale: int | None, *, source: str) -> int:
    """Return the factor to use: ``scale``, or the card's default.

    Raises:
        InputError: the model does not serve ``scale``.
    """
    chosen = card.default_scale if scale is None else scale
    allowed = (1, *card.scales) if card.upscale == "before" else card.scales
    if chosen not in allowed:
        raise InputError(f"{source}: serves scales {', '.join(map(str, allowed))}, not {chosen}; choose one with --scale")
    return chosen


def upscale(engine: Engine, pixels: Pixels, scale: int, *, on_band: Callable[[float], None] | None = None) -> Pixels:
    """Return the picture enlarged ``scale`` times, a new array with the same channels.

    ``on_band`` is told the part that is done, 0 to 1, after each band.

    Raises:
        EngineError: the backend failed.
    """
    h, w, channels = pixels.shape
    grey, alpha = channels <= 2, channels in (2, 4)
    result = np.empty((h * scale, w * scale, channels), np.uint8)

    def luma_rows(first: int, last: int) -> Planes:
        band = enlarge_band(lambda a, b: planes_from(pixels[a:b], grey)[0], (h, w), scale, (first, last))
        return band[None] / np.float32(255.0)

    for top, luma in run_bands(engine, luma_rows, (h * scale, w * scale)):
        band = top, top + luma.shape[1]
        target = result[band[0] : band[1]]
        y = luma[0] * np.float32(255.0)
        if grey:
            target[..., 0] = grey_from_luma(y)
        else:
            chroma = [
                enlarge_band(lambda a, b, i=i: planes_from(pixels[a:b], grey)[i], (h, w), scale, band)  # type: ignore[misc]
                for i in (1, 2)
            ]
            target[..., :3] = rgb_from_ycbcr(np.stack([y, *chroma]))
        if alpha:
            plane = enlarge_band(lambda a, b: pixels[a:b, :, -1].astype(np.float32), (h, w), scale, band)
            target[..., -1] = np.clip(np.rint(plane), 0, 255)
        if on_band is not None:
            on_band(band[1] / (h * scale))
    return result


def planes_from(pixels: Pixels, grey: bool) -> NDArray[np.float32]:
    """Return Y (of a grey picture), or Y, Cb, Cr, in grey levels and studio range: float32 (1 or 3, h, w)."""
    if not grey:
        return ycbcr_from_rgb(pixels[..., :3])
    return pixels[None, ..., 0].astype(np.float32) * np.float32(219.0 / 255.0) + np.float32(16.0)


def grey_from_luma(luma: Plane) -> NDArray[np.uint8]:
    """Return full-range grey samples from studio-range luma: uint8 (h, w), rounded and clipped."""
    return np.asarray(np.clip(np.rint((luma - np.float32(16.0)) * np.float32(255.0 / 219.0)), 0, 255), np.uint8)

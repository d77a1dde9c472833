"""A picture through an engine: luma by the network, colour and transparency by bicubic, or RGB by the network, band by band.

Beside the picture and the result only a few bands of tiles are held: one, or one or two in each stage where stages overlap. A
grey picture is treated as its RGB copy: for a luma network its samples are brought to studio range and back (BT.601), so that
grey and colour pictures meet the network in the range it knows; from an RGB network it takes the luma of the three channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Plane, enlarge_band
from sr_deploy.errors import EngineError, InputError
from sr_deploy.luma import INVERSE, OFFSET, luma_from_planes, ycbcr_from_rgb
from sr_deploy.runtime.engine import Engine, Tiles
from sr_deploy.runtime.tiling import Band, Planes, bands_of

Pixels = NDArray[np.uint8]
"""A picture: uint8 (h, w, c), float32 in [0, 1] as well; c is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""


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


class Upscaling:
    """One picture on its way through an engine: bands of tiles go out, the engine's outputs come back, in order."""

    def __init__(self, card: ModelCard, pixels: Pixels, scale: int) -> None:
        """Hold the picture and the place for its result, (scale * h, scale * w, c) of its type; nothing is computed yet."""
        h, w, channels = pixels.shape
        self.card, self.pixels, self.scale = card, pixels, scale
        self.grey, self.alpha = channels <= 2, channels in (2, 4)
        self.result = np.empty((h * scale, w * scale, channels), pixels.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the picture and its result."""
        return int(self.pixels.nbytes + self.result.nbytes)

    def bands(self) -> Iterator[Band]:
        """Yield the rows of tiles that go through the engine, from top to bottom."""
        h, w, _ = self.pixels.shape
        before = self.scale if self.card.upscale == "before" else 1
        return bands_of(self.card, lambda first, last: self._seen(first, last, before), (h * before, w * before))

    def put(self, band: Band, output: Tiles) -> float:
        """Write the rows of the result that a band supplies; return the part of the picture that is done, 0 to 1."""
        made = band.joined(output) * np.float32(255.0)
        if not np.isfinite(made).all():
            raise EngineError(
                "the engine returns values that are no finite numbers; check it with sr-gate, or use its fp32 graph"
            )
        rows = band.top, band.top + made.shape[1]
        target = self.result[rows[0] : rows[1]]
        if self.grey:
            luma = made[0] if self.card.color == "y" else luma_from_planes(np.clip(made, 0, 255))
            target[..., 0] = stored((luma - np.float32(16.0)) * np.float32(255.0 / 219.0), target.dtype)
        elif self.card.color == "rgb":
            target[..., :3] = stored(np.moveaxis(made, 0, -1), target.dtype)
        else:
            planes = np.stack([made[0], *(self._enlarged(self._chroma(i), rows) for i in (1, 2))])
            matrix = (INVERSE * 255.0).astype(np.float32)
            target[..., :3] = stored((np.moveaxis(planes, 0, -1) - OFFSET.astype(np.float32)) @ matrix.T, target.dtype)
        if self.alpha:
            target[..., -1] = stored(self._enlarged(self._channel(-1), rows), target.dtype)
        return float(rows[1] / len(self.result))

    def _seen(self, first: int, last: int, scale: int) -> Planes:
        h, w, _ = self.pixels.shape
        if self.card.color == "y":
            band = enlarge_band(lambda a, b: planes_from(levels(self.pixels[a:b]), self.grey)[0], (h, w), scale, (first, last))
            return band[None] / np.float32(255.0)
        channels = [0] if self.grey else [0, 1, 2]
        bands = [enlarge_band(self._channel(i), (h, w), scale, (first, last)) for i in channels]
        return np.stack(bands * 3 if self.grey else bands) / np.float32(255.0)

    def _channel(self, index: int) -> Callable[[int, int], Plane]:
        return lambda a, b: levels(self.pixels[a:b, :, index])

    def _chroma(self, index: int) -> Callable[[int, int], Plane]:
        return lambda a, b: planes_from(levels(self.pixels[a:b]), self.grey)[index]

    def _enlarged(self, rows: Callable[[int, int], Plane], band: tuple[int, int]) -> Plane:
        h, w, _ = self.pixels.shape
        return enlarge_band(rows, (h, w), self.scale, band)


def upscale(engine: Engine, pixels: Pixels, scale: int, *, on_band: Callable[[float], None] | None = None) -> Pixels:
    """Return the picture enlarged ``scale`` times, a new array with the same channels.

    ``on_band`` is told the part that is done, 0 to 1, after each band.

    Raises:
        EngineError: the backend failed.
    """
    work = Upscaling(engine.card, pixels, scale)
    for band in work.bands():
        done = work.put(band, engine.run(band.tiles))
        if on_band is not None:
            on_band(done)
    return work.result


def levels(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return samples in grey levels, 0..255: a new float32 array of the same shape."""
    found = pixels.astype(np.float32)
    return found if pixels.dtype == np.uint8 else np.multiply(found, np.float32(255.0), out=found)


def stored(levels: NDArray[np.float32], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return grey levels as samples of ``dtype``, clipped; integers are rounded."""
    if dtype == np.uint8:
        return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)
    return np.asarray(np.clip(levels / np.float32(255.0), 0, 1), np.float32)


def planes_from(pixels: NDArray[np.uint8] | NDArray[np.float32], grey: bool) -> NDArray[np.float32]:
    """Return Y (of a grey picture), or Y, Cb, Cr, in grey levels and studio range: float32 (1 or 3, h, w)."""
    if not grey:
        return ycbcr_from_rgb(pixels[..., :3])  # type: ignore[arg-type]
    return pixels[None, ..., 0].astype(np.float32) * np.float32(219.0 / 255.0) + np.float32(16.0)


def grey_from_luma(luma: Plane) -> NDArray[np.uint8]:
    """Return full-range grey samples from studio-range luma: uint8 (h, w), rounded and clipped."""
    return np.asarray(np.clip(np.rint((luma - np.float32(16.0)) * np.float32(255.0 / 219.0)), 0, 255), np.uint8)

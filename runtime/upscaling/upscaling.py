"""A picture through an engine: luma by the network, colour and transparency by bicubic, or RGB by the network, band by band.

Beside the picture and the result only a few bands of tiles are held: one, or one or two in each stage where stages overlap. A
grey picture is treated as its RGB copy: for a luma network its samples are brought to studio range and back (BT.601), so that
grey and colour pictures meet the network in the range it knows; from an RGB network it takes the luma of the three channels.
Alpha is a plane of its own, and colours under full transparency touch no visible pixel (``transparency.py``). Samples of 8 and 16
bits are rounded and clipped; float samples are neither, so that they may overshoot their range as networks and bicubic do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Plane, enlarge_band
from sr_deploy.errors import EngineError
from sr_deploy.luma import levels_from_ycbcr, luma_from_planes, ycbcr_from_rgb
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.pictures.samples import Levels, Pixels, Samples, nominal, samples_of
from sr_deploy.runtime.upscaling.tiling import Band, Planes, bands_of
from sr_deploy.runtime.upscaling.transparency import Hidden, hidden_in

NEUTRAL = np.float32(128.0)  # Cb and Cr of a grey pixel


Known = tuple[Samples, Hidden | None]
"""What the samples of a picture stand for, and what hides under its transparency: facts about all of it."""


def known_of(pixels: Pixels) -> Known:
    """Return the facts about a picture in memory.

    Raises:
        ValueError: the samples are not uint8, uint16 or float32.
        InputError: a float sample is not a finite number.
    """
    channels = pixels.shape[2]
    samples = samples_of(pixels[..., : 1 if channels <= 2 else 3])
    return samples, hidden_in(pixels, samples) if channels in (2, 4) else None


class Upscaling:
    """One picture on its way through an engine: bands of tiles go out, the engine's outputs come back, in order."""

    def __init__(
        self, card: ModelCard, pixels: Pixels, scale: int, *, known: Known | None = None, result: Pixels | None = None
    ) -> None:
        """Hold the picture and the place for its result, (scale * h, scale * w, c) of the same type; nothing is computed yet.

        Args:
            card: of the engine.
            pixels: (h, w, c), or anything with ``shape``, ``dtype``, ``nbytes`` and slices of rows, where ``known`` is given.
            scale: the factor.
            known: what the samples stand for and what hides under transparency, where that was found out before.
            result: the place for the result, or anything of its ``shape`` that gives room for slices of rows; else a new array.

        Raises:
            ValueError: the samples are not uint8, uint16 or float32.
            InputError: a float sample is not a finite number.
        """
        h, w, channels = pixels.shape
        self.card, self.pixels, self.scale = card, pixels, scale
        self.grey, self.alpha = channels <= 2, channels in (2, 4)
        self.samples, self.hidden = known_of(pixels) if known is None else known
        self.opacity = nominal(pixels.dtype)
        self.result: Pixels = np.empty((h * scale, w * scale, channels), pixels.dtype) if result is None else result

    @property
    def results(self) -> tuple[Pixels, ...]:
        """The one result, whole when all bands were put."""
        return (self.result,)

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
            target[..., 0] = self.samples.stored(self._grey(made))
        elif self.card.color == "rgb":
            target[..., :3] = np.moveaxis(self.samples.stored(made), 0, -1)
        else:
            target[..., :3] = self.samples.stored(self._coloured(made[0], rows))
        if self.alpha:
            target[..., -1] = np.clip(self.opacity.stored(self._enlarged(self._opacity, rows)), 0, self.opacity.white)
        return float(rows[1] / len(self.result))

    def _colours(self, first: int, last: int) -> Pixels:
        """Return grey levels of rows of the picture, (n, w, 1 or 3); those of 8 bits as they are stored."""
        if self.hidden is not None:
            return self.hidden.colours(first, last)
        part = self.pixels[first:last, :, : 1 if self.grey else 3]
        return np.asarray(part, np.uint8) if part.dtype == np.uint8 else self.samples.levels(part)

    def _seen(self, first: int, last: int, scale: int) -> Planes:
        h, w, _ = self.pixels.shape
        if self.card.color == "y":
            band = enlarge_band(lambda a, b: planes_from(self._colours(a, b), self.grey)[0], (h, w), scale, (first, last))
            return band[None] / np.float32(255.0)
        read = remembering(self._colours)
        channels = [0] if self.grey else [0, 1, 2]
        bands = [enlarge_band(channel_of(read, i), (h, w), scale, (first, last)) for i in channels]
        return np.stack(bands * 3 if self.grey else bands) / np.float32(255.0)

    def _grey(self, made: Planes) -> Plane:
        """Return the grey levels of what the network made of a grey picture."""
        if self.card.color == "y":
            return levels_from_luma(made[0])
        bounded = made if self.samples.dtype == np.float32 else np.clip(made, 0, 255)
        return levels_from_luma(luma_from_planes(bounded))

    def _coloured(self, luma: Plane, rows: tuple[int, int]) -> Levels:
        """Return R, G, B from the network's luma and the picture's own chroma, (n, w, 3)."""
        # Enlarged around zero: a grey picture then keeps exactly no colour.
        read = remembering(lambda a, b: np.moveaxis(planes_from(self._colours(a, b), self.grey)[1:] - NEUTRAL, 0, -1))
        chroma = [self._enlarged(channel_of(read, i), rows) + NEUTRAL for i in (0, 1)]
        return levels_from_ycbcr(np.stack([luma, *chroma]))

    def _opacity(self, first: int, last: int) -> Plane:
        return self.opacity.levels(self.pixels[first:last, :, -1])

    def _enlarged(self, rows: Callable[[int, int], Plane], band: tuple[int, int]) -> Plane:
        h, w, _ = self.pixels.shape
        return enlarge_band(rows, (h, w), self.scale, band)


class FramesUpscaling:
    """Several pictures as one :class:`Upscaling`: their bands go out in order, and outputs come back in that order."""

    def __init__(self, card: ModelCard, frames: Sequence[Pixels], scale: int) -> None:
        """Hold the frames and the places for their results, each of its own size; see :class:`Upscaling`."""
        self.works = [Upscaling(card, pixels, scale) for pixels in frames]
        self.done = 0  # frames

    @property
    def results(self) -> tuple[Pixels, ...]:
        """The enlarged frames, whole when all bands were put."""
        return tuple(work.result for work in self.works)

    @property
    def nbytes(self) -> int:
        """Bytes of the frames and their results."""
        return sum(work.nbytes for work in self.works)

    def bands(self) -> Iterator[Band]:
        """Yield the rows of tiles of each frame, from top to bottom."""
        for work in self.works:
            yield from work.bands()

    def put(self, band: Band, output: Tiles) -> float:
        """Write what a band supplies; return the part of all frames that is done, 0 to 1."""
        part = self.works[self.done].put(band, output)
        before = self.done
        if part >= 1.0:
            self.done += 1
        return (before + part) / len(self.works)


def upscale(engine: Engine, pixels: Pixels, scale: int, *, on_band: Callable[[float], None] | None = None) -> Pixels:
    """Return the picture enlarged ``scale`` times, a new array with the same channels.

    ``on_band`` is called with the part that is done, 0 to 1, after each band.

    Raises:
        EngineError: the backend failed.
    """
    work = Upscaling(engine.card, pixels, scale)
    for band in work.bands():
        done = work.put(band, engine.run(band.tiles))
        if on_band is not None:
            on_band(done)
    return work.result


def planes_from(colours: Pixels, grey: bool) -> NDArray[np.float32]:
    """Return Y (of a grey picture), or Y, Cb, Cr, in grey levels and studio range: float32 (1 or 3, h, w)."""
    if not grey:
        return ycbcr_from_rgb(colours[..., :3])
    return colours[None, ..., 0].astype(np.float32) * np.float32(219.0 / 255.0) + np.float32(16.0)


def levels_from_luma(luma: Plane) -> Plane:
    """Return full-range grey levels from studio-range luma: float32 (h, w), neither rounded nor clipped."""
    return np.asarray((luma - np.float32(16.0)) * np.float32(255.0 / 219.0), np.float32)


def channel_of(read: Callable[[int, int], Pixels], index: int) -> Callable[[int, int], Plane]:
    """Return a reader of one channel, float32 (n, w), of what ``read`` returns, (n, w, c)."""
    return lambda first, last: read(first, last)[..., index].astype(np.float32)


def remembering(
    read: Callable[[int, int], Pixels],
) -> Callable[[int, int], Pixels]:
    """Return ``read`` with its last result kept: the channels of a band are asked for one after the other."""
    kept: dict[tuple[int, int], Pixels] = {}

    def rows(first: int, last: int) -> Pixels:
        if (first, last) not in kept:
            kept.clear()
            kept[first, last] = read(first, last)
        return kept[first, last]

    return rows

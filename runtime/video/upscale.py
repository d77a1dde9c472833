"""One frame through an engine: luma by the network, colour and alpha by bicubic, or RGB by the network, band by band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from sr_deploy.card import ModelCard
from sr_deploy.degrade import Plane, enlarge_band, imresize
from sr_deploy.errors import EngineError
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.upscaling.tiling import Band, Planes, bands_of
from sr_deploy.runtime.video.coding import (
    Coding,
    Samples,
    planes_from_rgb,
    recode_colour,
    resite,
    rgb_from_planes,
    store_rounded,
    studio_from_luma,
)
from sr_deploy.runtime.video.coding import luma_from_studio as coded
from sr_deploy.runtime.video.frames import PixelFormat, Shot, plane_view, target_coding


@dataclass(frozen=True)
class Target:
    """What enlarged frames are."""

    form: PixelFormat
    size: tuple[int, int]  # (h, w) of the coded frame: the enlarged one, or a row and a column more
    scale: int
    aspect: Fraction | None = None  # of a pixel's width to its height


class FrameWork:
    """One frame on its way through an engine: bands of tiles go out, the engine's outputs come back, in order."""

    def __init__(self, card: ModelCard, shot: Shot, target: Target) -> None:
        """Hold the frame and the place for its result; nothing is computed yet."""
        self.card, self.shot, self.target = card, shot, target
        self.coding = target_coding(shot.coding, target.form)
        self.frame = VideoFrame(target.size[1], target.size[0], target.form.name)
        self.planes = [plane_view(self.frame, index, target.form) for index in range(len(self.frame.planes))]
        h, w = shot.luma.shape
        self.large = h * target.scale, w * target.scale
        self.differences: NDArray[np.float32] | None = None  # Cb and Cr of the network's RGB, for every luma pixel
        if card.color == "rgb" and not target.form.grey and shot.colour is not None:
            self.differences = np.empty((2, *self.large), np.float32)

    def bands(self) -> Iterator[Band]:
        """Yield the rows of tiles that go through the engine, from top to bottom."""
        h, w = self.shot.luma.shape
        before = self.target.scale if self.card.upscale == "before" else 1
        if self.card.color == "y":
            return bands_of(self.card, lambda first, last: self._luma(first, last, before)[None], (h * before, w * before))
        rgb = self._rgb()

        def rows(first: int, last: int) -> Planes:
            parts = [enlarge_band(lambda a, b, c=c: c[a:b], (h, w), before, (first, last)) for c in rgb]  # type: ignore[misc]
            return np.stack(parts)

        return bands_of(self.card, rows, (h * before, w * before))

    def put(self, band: Band, output: Tiles) -> None:
        """Write the luma rows that a band supplies."""
        made = band.joined(output)
        if not np.isfinite(made).all():
            raise EngineError(
                "the engine returns values that are no finite numbers; check it with sr-gate, or use its fp32 graph"
            )
        rows = slice(band.top, band.top + made.shape[1])
        if self.card.color == "y":
            luma = coded(made[0] * np.float32(255.0), self.coding)
        else:
            luma, cb, cr = planes_from_rgb(np.clip(made, 0.0, 1.0), self.coding)
            if self.differences is not None:
                self.differences[0, rows], self.differences[1, rows] = cb, cr
        store_rounded(luma, self.coding, self.planes[0][rows, : self.large[1]])

    def finish(self) -> VideoFrame:
        """Return the enlarged frame, when all bands are in: colour and alpha are made here."""
        _extend(self.planes[0], self.large)
        if not self.target.form.grey:
            self._colour()
        if self.target.form.alpha:
            self._alpha()
        return self.frame

    def _luma(self, first: int, last: int, before: int) -> Plane:
        h, w = self.shot.luma.shape
        band = enlarge_band(lambda a, b: studio_from_luma(self.shot.luma[a:b], self.shot.coding), (h, w), before, (first, last))
        return np.asarray(band / np.float32(255.0), np.float32)

    def _rgb(self) -> Planes:
        shot, even = self.shot, Coding()  # a colour sample for every luma pixel
        if shot.colour is None:
            grey = (studio_from_luma(shot.luma, shot.coding) - np.float32(16.0)) / np.float32(219.0)
            return np.repeat(np.clip(grey, 0.0, 1.0)[None], 3, axis=0)
        size = shot.luma.shape
        cb, cr = (resite(plane, (size[0], size[1]), 1, (shot.coding, even)) for plane in shot.colour)
        return rgb_from_planes(shot.luma, (cb, cr), shot.coding)

    def _colour(self) -> None:
        even = Coding(self.coding.depth, self.coding.full)
        for index, out in enumerate(self.planes[1:3]):
            size = out.shape[0], out.shape[1]
            if self.differences is not None:
                made = resite(self.differences[index], size, 1, (even, self.coding))
            elif self.shot.colour is not None:
                enlarged = resite(self.shot.colour[index], size, self.target.scale, (self.shot.coding, self.coding))
                made = recode_colour(enlarged, self.shot.coding, self.coding)
            else:
                made = np.full(size, self.coding.middle, np.float32)
            store_rounded(made, self.coding, out)

    def _alpha(self) -> None:
        assert self.shot.alpha is not None
        large = imresize(self.shot.alpha.astype(np.float32), float(self.target.scale), size=self.large)
        gain = self.coding.largest / self.shot.coding.largest
        store_rounded(large * np.float32(gain), self.coding, self.planes[3][: self.large[0], : self.large[1]])
        _extend(self.planes[3], self.large)


def _extend(plane: Samples, size: tuple[int, int]) -> None:
    """Repeat the last row and column of the part of ``size`` into what lies beyond it."""
    plane[: size[0], size[1] :] = plane[: size[0], size[1] - 1 : size[1]]
    plane[size[0] :] = plane[size[0] - 1 : size[0]]

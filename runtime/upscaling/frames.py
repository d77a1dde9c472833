"""The frames of an animation, or the pages of a document, on their way through an engine one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sr_deploy.card import ModelCard
from sr_deploy.runtime.backends.engine import Tiles
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.upscaling.upscaling import Upscaling


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

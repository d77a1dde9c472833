"""A picture that is read by rows through an engine: the same numbers as :class:`Upscaling` gives with the picture in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import cast

from sr_deploy.card import ModelCard
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.large.facts import Facts
from sr_deploy.runtime.large.rows import NextRows, Window
from sr_deploy.runtime.pictures.rows import RowSource
from sr_deploy.runtime.pictures.samples import Pixels
from sr_deploy.runtime.upscaling.pipeline import Passage, through_engine
from sr_deploy.runtime.upscaling.stages import Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band, grid_of
from sr_deploy.runtime.upscaling.transparency import REACH, Hidden
from sr_deploy.runtime.upscaling.upscaling import Upscaling

TAPS = 8  # rows above a tile that bicubic looks at, and more


class StreamedUpscaling(Upscaling):
    """An :class:`Upscaling` that holds a window of the picture, and of the result only the rows that are being made."""

    def __init__(self, card: ModelCard, source: RowSource, scale: int, facts: Facts) -> None:
        """Read nothing yet; ``facts`` are those of all of ``source``."""
        self.window = Window(source)
        h, w, c = source.shape
        self.made = NextRows((h * scale, w * scale, c), source.dtype)
        self.margin = grid_of(card).height + REACH + TAPS
        # Both are sliced as the arrays would be, and nothing else is done with them.
        pixels, result = cast(Pixels, self.window), cast(Pixels, self.made)
        hidden = None if facts.hidden_mean is None else Hidden(pixels, facts.samples, facts.hidden_mean)
        super().__init__(card, pixels, scale, known=(facts.samples, hidden), result=result)

    def finished(self, band: Band, output: Tiles) -> tuple[float, Pixels]:
        """Return the part of the picture that is done, 0 to 1, and the rows of the result that a band supplies, (n, w, c)."""
        done = self.put(band, output)
        rows = self.made.taken()
        self.window.release(self.made.top // self.scale - self.margin)
        return done, rows


class InRows(Passage):
    """A picture on its way through an engine, whose rows are handed out as they are made."""

    def __init__(self, work: StreamedUpscaling) -> None:
        self.work = work
        self.ready: deque[tuple[float, Pixels]] = deque()  # the part of the picture that is done, and the rows that come next

    def bands(self) -> Iterator[Band]:
        """See :class:`Passage`."""
        return self.work.bands()

    def put(self, band: Band, output: Tiles) -> None:
        """See :class:`Passage`."""
        self.ready.append(self.work.finished(band, output))


def enlarge_rows(
    engine: Engine, source: RowSource, scale: int, facts: Facts, *, overlap: bool = False
) -> Generator[tuple[float, Pixels], None, None]:
    """Yield the part of the picture that is done, 0 to 1, and the rows of its result that come next, (n, scale * w, c).

    Args:
        engine: used by one thread at a time, which need not be the caller's.
        source: read from top to bottom.
        scale: the factor.
        facts: about all of ``source``.
        overlap: read and cut, compute, and finish rows in a thread each.

    Raises:
        InputError: the picture is truncated or damaged.
        EngineError: the backend failed.
    """
    work = InRows(StreamedUpscaling(engine.card, source, scale, facts))
    with Stages(overlap=overlap) as stages:
        # Each band alone: rows that wait for others are held.
        steps = through_engine(iter([work]), engine, stages, StageTimes(), full=lambda waiting: True)
        for _, finished in stages.ahead(steps, depth=1):
            if not finished:
                yield work.ready.popleft()

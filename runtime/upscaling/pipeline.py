"""The one way through an engine, of pictures, videos and pictures by rows: cut into tiles, computed, put together.

Three stages, each reading the one before: on a GPU in threads of their own, on a CPU, where the engine takes all cores, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np

from sr_deploy.errors import SrDeployError
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.upscaling.batches import groups, run_together
from sr_deploy.runtime.upscaling.stages import Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band

EXPECTED = (SrDeployError, MemoryError, OSError)  # of one picture; anything else ends the run


class Passage:
    """Something on its way through an engine: its bands of tiles go out, and the engine's outputs come back in that order.

    What fails is raised and ends the run, unless a subclass keeps it in :meth:`failed` and is not ``alive`` from then on.
    """

    @property
    def alive(self) -> bool:
        """Whether it is still to be computed."""
        return True

    def bands(self) -> Iterator[Band]:
        """Yield the rows of tiles that go through the engine, from top to bottom."""
        return iter(())

    def put(self, band: Band, output: Tiles) -> None:
        """Take what the engine made of a band."""

    def computed(self) -> None:
        """Called by the stage that has the engine, behind the last band."""

    def finish(self) -> None:
        """Called when all outputs were taken."""

    def failed(self, error: SrDeployError | MemoryError | OSError) -> None:
        """Called with an error of one of the methods above, or of the engine; raises it."""
        raise error


Item = TypeVar("Item", bound=Passage)
Part = tuple[Item, "Band | None"]
"""A band of an item; ``None`` behind its last one."""


def through_engine(
    items: Iterator[Item],
    engine: Engine,
    stages: Stages,
    times: StageTimes,
    *,
    full: Callable[[list[Part[Item]]], bool] = lambda waiting: False,
) -> Generator[tuple[Item, bool], None, None]:
    """Bring items through an engine, and yield each behind every output that it took and, with ``True``, when it is finished.

    Cutting, the engine and this generator are stages of their own. Tiles of several bands and items share a run of the engine
    where one fills no batch; what fails together is tried alone, so that one that works is not lost with one that does not.

    Args:
        items: come out in this order.
        engine: used by one thread at a time.
        stages: the threads.
        times: get the seconds of ``tiles``, ``engine`` and ``colour``.
        full: says of bands that wait for each other that they are not to wait any longer.
    """
    cut = stages.ahead(_cut(items, times), depth=1)
    parts = groups(cut, (engine.card.input_shape or (1,))[0], full=full)
    return _taken(stages.ahead(_computed(parts, engine, times), depth=1), times)


def _cut(items: Iterator[Item], times: StageTimes) -> Generator[Part[Item], None, None]:
    for item in items:
        bands = item.bands()
        while (band := _next_band(item, bands, times)) is not None:
            yield item, band
        del bands  # it holds the picture and its result, and the next picture is read before it is made again
        yield item, None


def _next_band(item: Passage, bands: Iterator[Band], times: StageTimes) -> Band | None:
    with times.of("tiles"):
        try:
            return next(bands, None) if item.alive else None
        except EXPECTED as err:
            item.failed(err)
            return None


def _computed(
    parts: Iterator[list[Part[Item]]], engine: Engine, times: StageTimes
) -> Generator[tuple[Item, Band | None, Tiles], None, None]:
    for group in parts:
        with times.of("engine"):
            outputs = _outputs(group, engine)
        for (item, band), output in zip(group, outputs, strict=True):
            if band is None:
                item.computed()
            if output is not None:
                yield item, band, output


def _outputs(group: list[Part[Item]], engine: Engine) -> list[Tiles | None]:
    """Return the engine's output for each part, ``None`` for one that failed, nothing for one without tiles."""
    # Decided once: a later stage may find an error while the engine runs.
    live = [(item, band) for item, band in group if band is not None and item.alive]
    made: Sequence[Tiles | None] | None = None
    if len(live) > 1:
        with suppress(*EXPECTED):
            made = run_together(engine.run, [band for _, band in live])
    if made is None:
        made = [_alone(item, band, engine) for item, band in live]
    outputs = {id(band): output for (_, band), output in zip(live, made, strict=True)}
    nothing = np.empty(0, np.float32)
    return [nothing if band is None else outputs.get(id(band)) for _, band in group]


def _alone(item: Passage, band: Band, engine: Engine) -> Tiles | None:
    try:
        return engine.run(band.tiles)
    except EXPECTED as err:
        item.failed(err)
        return None


def _taken(parts: Iterator[tuple[Item, Band | None, Tiles]], times: StageTimes) -> Generator[tuple[Item, bool], None, None]:
    for item, band, output in parts:
        if item.alive:
            with times.of("colour"):
                try:
                    item.finish() if band is None else item.put(band, output)
                except EXPECTED as err:
                    item.failed(err)
        if band is None or item.alive:
            yield item, band is None

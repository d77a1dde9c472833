"""One video through an engine: decoding, tiles, the engine, colour and encoding as stages that overlap.

Tiles of several frames share a run of the engine where one frame fills none. On a GPU every stage runs in a thread of its own; on
a CPU, where the engine takes all cores, they take turns, and only the encoder's own threads work beside it. A few frames are held
in each stage, whatever the video's length.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from sr_deploy.errors import EngineError, InputError
from sr_deploy.runtime.backends.engine import Engine, Tiles
from sr_deploy.runtime.upscaling.pipeline import Passage, through_engine
from sr_deploy.runtime.upscaling.stages import Stages, StageTimes
from sr_deploy.runtime.upscaling.tiling import Band
from sr_deploy.runtime.video.names import WRITTEN, quality_options
from sr_deploy.runtime.video.options import USUAL, VideoOptions
from sr_deploy.runtime.video.result import Encoding, Result
from sr_deploy.runtime.video.source import SHORT_S, SHORT_SHARE, Copied, Item, Picture, Video, open_video
from sr_deploy.runtime.video.streams import describe, sort_streams
from sr_deploy.runtime.video.target import check_codec, choose_target
from sr_deploy.runtime.video.upscale import FrameWork, Target
from sr_deploy.signals import HeldSignals, held_signals

MOST_EARLY = 2**28  # bytes of other streams in front of the first frame


@dataclass(frozen=True)
class Work(Passage):
    """A frame or a packet on its way, and the frame's part of it."""

    item: Item
    frame: FrameWork | None = None

    def bands(self) -> Iterator[Band]:
        """See :class:`Passage`."""
        return iter(()) if self.frame is None else self.frame.bands()

    def put(self, band: Band, output: Tiles) -> None:
        """See :class:`Passage`."""
        assert self.frame is not None
        self.frame.put(band, output)

    def finish(self) -> None:
        """See :class:`Passage`."""
        if self.frame is not None:
            self.frame.finish()


@dataclass(frozen=True)
class VideoRun:
    """How videos go through an engine."""

    engine: Engine
    scale: int
    options: VideoOptions = USUAL
    warn: Callable[[str], None] = lambda text: None
    on_start: Callable[[int], None] = lambda frames: None  # called with about how many frames there will be; 0: unknown
    on_frame: Callable[[int], None] = lambda done: None  # called with how many frames are encoded
    times: StageTimes = field(default_factory=StageTimes)

    def run(self, source: Path, output: Path) -> tuple[int, int]:
        """Enlarge a video and return width and height of the result.

        What a signal interrupts is finished as far as it came and stays under its working name.

        Raises:
            InputError: the video is none, or its result cannot be written so; nothing is left behind.
            MachineError: the disk or the encoder failed; nothing is left behind.
            EngineError: the engine failed; what was done stays, as after a signal.
            KeyboardInterrupt: a signal came.
        """
        if output.exists() and not self.options.overwrite:
            raise InputError(
                f"{output}: exists already; add --overwrite to replace it or --skip-existing to keep it, "
                "or choose another place with -o"
            )
        kind = WRITTEN[output.suffix.lower()]
        codec = check_codec(self.options.codec or kind.codec)
        options = quality_options(codec, self.options.crf)
        with closing(open_video(source)) as video:
            check_size(video, self.options.max_pixels)
            kept, lost = sort_streams(video, kind)
            items = video.items([stream for stream in kept if stream.type != "attachment"])
            early, first = until_picture(video, items)
            target = choose_target(video, first, codec, self.scale, self.warn)
            with held_signals() as asked:
                try:
                    result = Result(output, video, Encoding(codec, options, target, first.time_base), kept)
                    for stream in lost:
                        self.warn(f"{source}: {describe(stream)} is left out: {output.suffix} does not hold it")
                    self.on_start(video.frames)
                    if self._carry(chain(early, [first], items), target, result, asked):
                        self._tell(video, result)
                        result.rename(overwrite=self.options.overwrite)
                finally:
                    asked.obey()  # also where something failed since: the next video is not started
        h, w = target.size
        return w, h

    def _carry(self, items: Iterable[Item], target: Target, result: Result, asked: HeldSignals) -> bool:
        """Bring all items into the result and finish it; return whether it is whole, else say what became of it."""
        whole = True
        try:
            with Stages(overlap=self.options.overlap) as stages:
                for work in self._stages(items, target, stages):
                    self._write(work, result)
                    if asked.numbers:
                        whole = False
                        break
            with self.times.of("encode"):
                result.finish()
        except EngineError:
            self._stopped(result, "the engine failed")
            raise
        except Exception:
            result.discard()
            raise
        if not whole:
            self._stopped(result, "interrupted")
        return whole

    def _stopped(self, result: Result, why: str) -> None:
        """Keep what was done of a video, if anything was."""
        if not result.frames:
            result.discard()
            return
        try:
            result.finish()
        except Exception:
            result.discard()
            raise
        self.warn(f"{result.output}: {why} after {result.frames} frames; {result.part} holds them and plays")

    def _stages(self, items: Iterable[Item], target: Target, stages: Stages) -> Iterator[Work]:
        decoded = stages.ahead(self._decoded(items))
        works = (self._work(item, target) for item in decoded)
        steps = stages.ahead(through_engine(works, self.engine, stages, self.times), depth=1)
        return (work for work, finished in steps if finished)

    def _work(self, item: Item, target: Target) -> Work:
        return Work(item, FrameWork(self.engine.card, item.shot, target) if isinstance(item, Picture) else None)

    def _decoded(self, items: Iterable[Item]) -> Generator[Item, None, None]:
        source = iter(items)
        while True:
            with self.times.of("decode"):
                item = next(source, None)
            if item is None:
                return
            yield item

    def _write(self, work: Work, result: Result) -> None:
        with self.times.of("encode"):
            if isinstance(work.item, Copied):
                result.copy(work.item.packet)
            elif work.frame is not None:
                result.frame(work.frame.frame, work.item.pts, work.item.duration)
        if work.frame is not None:
            self.on_frame(result.frames)

    def _tell(self, video: Video, result: Result) -> None:
        """Warn of what was wrong with the video."""
        damage, lines = video.damage, []
        if damage.interlaced:
            lines.append("is interlaced, and was enlarged as it is; deinterlace it first if edges that move show combs")
        if damage.packets or damage.frames:
            lines.append(f"is damaged: {damage.packets} packets were passed over, {damage.frames} frames have errors in them")
        if damage.retimed:
            lines.append(f"{damage.retimed} frames were not later than the one before, and were moved behind it")
        if result.lost_packets:
            lines.append(f"{result.lost_packets} packets of other streams were left out, the container rejected their times")
        length = 0.0 if video.last_pts is None else float(video.last_pts * result.encoding.time_base)
        start = float((video.stream.start_time or 0) * (video.stream.time_base or 0))
        missing = video.seconds - (length - start + 1 / float(video.rate))
        if damage.ended or (missing > SHORT_S and missing > SHORT_SHARE * video.seconds):
            lines.append(f"ends after {length - start:.1f} of {video.seconds:.1f} seconds: it is cut off or damaged")
        for line in lines:
            self.warn(f"{video.path}: {line}")


def check_size(video: Video, most: int) -> None:
    """Check what a video declares before anything is decoded.

    Raises:
        InputError: its frames have more pixels than ``most``.
    """
    w, h = video.stream.width, video.stream.height
    if w * h > most:
        raise InputError(f"{video.path}: declares frames of {w}x{h} pixels, the limit is {most}; see --max-pixels")


def until_picture(video: Video, items: Iterator[Item]) -> tuple[list[Item], Picture]:
    """Return the first frame, and the packets before it.

    Raises:
        InputError: there is none.
    """
    early: list[Item] = []
    held = 0
    for item in items:
        if isinstance(item, Picture):
            return early, item
        early.append(item)
        held += item.packet.size
        if held > MOST_EARLY:
            break
    why = f"; {video.damage.packets} packets are damaged" if video.damage.packets else ""
    raise InputError(f"{video.path}: holds no frame that can be decoded{why}; try to play it")

"""A video that is read: its moving pictures as frames, everything else as packets, in the order of the file.

What is damaged is passed over and counted, because a recording that lacks its end is still a video; what holds no frame at all is
rejected before anything is written.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av import Packet, VideoFrame
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from sr_deploy.errors import InputError
from sr_deploy.runtime.video.frames import Shot, shot_from_frame
from sr_deploy.runtime.video.names import DEMUXERS

NOMINAL_RATE = Fraction(25)  # of a video that names none
SHORT_S, SHORT_SHARE = 1.0, 0.02  # a video that ends earlier than its header says, by more than both, gets a warning


@dataclass(frozen=True)
class Picture:
    """A frame with its time."""

    shot: Shot
    pts: int
    duration: int  # 0: unknown
    time_base: Fraction


@dataclass(frozen=True)
class Copied:
    """A packet of another stream that goes into the result as it is."""

    packet: Packet[Stream]


Item = Picture | Copied


@dataclass
class Damage:
    """What was wrong with a video on the way."""

    packets: int = 0  # that could not be decoded
    frames: int = 0  # decoded with errors in them
    retimed: int = 0  # whose time was not after that of the frame before
    ended: str = ""  # why reading stopped early
    interlaced: bool = False


@dataclass
class Video:
    """An open video; close it."""

    path: Path
    container: av.container.InputContainer
    stream: VideoStream
    others: list[Stream]
    damage: Damage = field(default_factory=Damage)
    first: VideoFrame | None = None
    last_pts: int | None = None

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    @property
    def rate(self) -> Fraction:
        """Frames a second, on the average."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return Fraction(rate) if rate else NOMINAL_RATE

    @property
    def seconds(self) -> float:
        """What the header says of the length; 0 where it says nothing."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base

    @property
    def frames(self) -> int:
        """About how many frames there are; 0 where nothing is known."""
        return self.stream.frames or round(self.seconds * float(self.rate))

    def items(self, wanted: list[Stream]) -> Generator[Item, None, None]:
        """Yield the frames and the packets of the ``wanted`` other streams, in the order of the file.

        Raises:
            InputError: the size of the frames changes, or the disk fails.
        """
        decoded: deque[VideoFrame] = deque()
        for packet in self._packets(wanted):
            if packet.stream_index != self.stream.index:
                if packet.size:
                    yield Copied(packet)
                continue
            decoded.extend(self._decode(packet))
            while decoded:
                yield self._picture(decoded.popleft())

    def _packets(self, wanted: list[Stream]) -> Generator[Packet[Stream], None, None]:
        packets = self.container.demux(self.stream, *wanted)
        while True:
            try:
                packet = next(packets, None)
            except OSError as err:
                raise InputError(f"{self.path}: cannot be read on ({err.strerror}); check the disk") from err
            except av.FFmpegError as err:
                self.damage.ended = str(err.strerror)
                packet = None
            if packet is None:
                break
            yield packet
        if self.damage.ended:
            yield Packet()  # what the decoder still holds

    def _decode(self, packet: Packet[Stream]) -> list[VideoFrame]:
        try:
            return list(self.stream.decode(None if packet.size == 0 else packet))
        except av.EOFError:
            return []
        except av.FFmpegError:
            self.damage.packets += 1
            return []

    def _picture(self, frame: VideoFrame) -> Picture:
        if self.first is None:
            self.first = frame
        if (frame.width, frame.height) != (self.first.width, self.first.height):
            raise InputError(
                f"{self.path}: its frames change from {self.first.width}x{self.first.height} to {frame.width}x{frame.height} "
                "pixels; cut it there, and enlarge the parts"
            )
        self.damage.frames += frame.is_corrupt
        self.damage.interlaced |= frame.interlaced_frame
        base = frame.time_base or self.stream.time_base or 1 / self.rate
        pts = self._time(frame, base)
        return Picture(shot_from_frame(frame, self.stream.codec_context.name), pts, frame.duration or 0, base)

    def _time(self, frame: VideoFrame, base: Fraction) -> int:
        """Return a frame's own time; where it has none, or one that is not behind the last, the next one."""
        step = max(round(1 / (self.rate * base)), 1)
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = 0 if self.last_pts is None else self.last_pts + step
        elif self.last_pts is not None and pts <= self.last_pts:
            pts = self.last_pts + 1
            self.damage.retimed += 1
        self.last_pts = pts
        return pts


def open_video(path: Path) -> Video:
    """Return an open video.

    Raises:
        InputError: it is missing, no video, or holds no moving pictures.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: not a regular file; name a video")
        with path.open("rb"):
            pass  # says why it cannot be read
        container = open_container(path)
    except av.FFmpegError as err:
        raise InputError(f"{path}: not a video, or damaged beyond use ({err.strerror}); try to play it") from err
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); name a video") from err
    try:
        return _video_in(path, container)
    except BaseException:
        container.close()
        raise


def open_container(path: Path) -> av.container.InputContainer:
    """Return FFmpeg's view of a file; a name is never a URL, and a file never opens another one."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    return av.open(f"file:{path}", "r", container_options=options, metadata_errors="replace")


def _video_in(path: Path, container: av.container.InputContainer) -> Video:
    moving = [stream for stream in container.streams.video if not is_cover(stream)]
    if not moving:
        what = "only a cover picture" if container.streams.video else "no moving pictures"
        raise InputError(f"{path}: holds {what}; name a video")
    chosen = next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])
    if chosen.codec_context is None:
        raise InputError(f"{path}: its pictures are of a kind that FFmpeg does not decode; convert it first")
    return Video(path, container, chosen, [stream for stream in container.streams if stream.index != chosen.index])


def is_cover(stream: Stream) -> bool:
    """Return whether a stream is a still picture that players show for the file."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))

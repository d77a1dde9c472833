"""The video that is written: an encoder for the frames, and the other streams as they are.

It grows under the name ``NAME.part.mp4`` beside the result, in a form that plays however far it came (MP4 in fragments, which
FFmpeg turns into a plain MP4 at the end; Matroska in short clusters), and gets its own name when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
from av import Packet, VideoFrame
from av.codec.context import Flags
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from sr_deploy.errors import DiskFullError, InputError, MachineError
from sr_deploy.files import DISK_FULL, WRONG_NAME
from sr_deploy.runtime.video.frames import BT709, FULL_RANGE, RGB_MATRIX, is_rgb
from sr_deploy.runtime.video.names import WRITTEN
from sr_deploy.runtime.video.source import Video
from sr_deploy.runtime.video.streams import add_streams, file_tags, stream_tags
from sr_deploy.runtime.video.upscale import Target


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded."""

    codec: str
    options: dict[str, str]
    target: Target
    time_base: Fraction


class Result:
    """A video in the making: ``frame`` and ``copy`` in order, then ``finish`` and ``rename``."""

    def __init__(self, output: Path, video: Video, encoding: Encoding, kept: Sequence[Stream]) -> None:
        """Create the working file and write its header; the video's first frame is decoded by then.

        Raises:
            InputError: the encoder or the container cannot hold such a video, or ``output`` cannot be a file.
            MachineError: the folder cannot be written.
        """
        self.output, self.encoding = output, encoding
        self.frames = self.lost_packets = 0
        self.last_dts: dict[int, int] = {}
        self.container: OutputContainer | None = None
        self.part = working_file(output)
        kind = WRITTEN[output.suffix.lower()]
        try:
            self.container = av.open(f"file:{self.part}", "w", format=kind.format, options=kind.options)
            self.container.metadata.update(file_tags(video))
            self.container.set_chapters(video.container.chapters())
            self.video = add_encoder(self.container, video, encoding)
            self.streams = add_streams(self.container, video, kept)
            self.container.start_encoding()
        except (av.FFmpegError, ValueError) as err:
            self.discard()
            if isinstance(err, OSError) and err.errno in DISK_FULL:
                raise DiskFullError(f"{output}: writing failed ({err.strerror}); make room on the disk") from err
            h, w = encoding.target.size
            said = getattr(err, "strerror", None) or err
            raise InputError(
                f"{output}: {encoding.codec} cannot write {w}x{h} pixels of {encoding.target.form.name} there ({said}); "
                "choose another --codec, or a smaller --scale"
            ) from err
        except BaseException:
            self.discard()
            raise

    def frame(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Encode a frame; its time is in units of the encoding's time base, a ``duration`` of 0 is not known."""
        frame.pts, frame.duration, frame.time_base = pts, duration, self.encoding.time_base
        tags = self.video.codec_context
        frame.color_range, frame.colorspace = tags.color_range, tags.colorspace
        frame.color_primaries, frame.color_trc = tags.color_primaries, tags.color_trc
        self._encode(frame)
        self.frames += 1

    def copy(self, packet: Packet[Stream]) -> None:
        """Write a packet of another stream as it is; sound that runs backwards is only counted: no container takes it."""
        index = packet.stream_index
        if index not in self.streams:
            return  # an attachment, which is written already
        assert self.container is not None
        if packet.dts is not None and packet.stream.type == "audio":
            if packet.dts <= self.last_dts.get(index, packet.dts - 1):
                self.lost_packets += 1
                return
            self.last_dts[index] = packet.dts
        packet.stream = self.streams[index]
        with writing(self.output):
            self.container.mux_one(packet)

    def finish(self) -> None:
        """Write what the encoder still holds, and the end of the file, under its working name; nothing when that is done."""
        if self.container is None:
            return
        self._encode(None)
        with writing(self.output):
            self.container.close()
        self.container = None

    def rename(self, *, overwrite: bool) -> None:
        """Give the finished file its name.

        Raises:
            InputError: a file of that name has appeared meanwhile; the finished one stays under its working name.
        """
        target = self.output.resolve()
        if target.exists() and not overwrite:
            raise InputError(f"{self.output}: appeared meanwhile; the finished video is {self.part}")
        with writing(self.output):
            self.part.replace(target)

    def discard(self) -> None:
        """Remove the working file."""
        if self.container is not None:
            with suppress(av.FFmpegError, OSError, ValueError):
                self.container.close()
            self.container = None
        with suppress(OSError):
            self.part.unlink()

    def _encode(self, frame: VideoFrame | None) -> None:
        assert self.container is not None
        try:
            packets = self.video.encode(frame)
        except av.EOFError:
            return
        except (av.FFmpegError, MemoryError) as err:
            said = getattr(err, "strerror", None) or "out of memory"
            raise MachineError(f"{self.output}: {self.encoding.codec} failed ({said}); choose another --codec") from err
        with writing(self.output):
            for packet in packets:
                self.container.mux_one(packet)


def add_encoder(container: OutputContainer, video: Video, encoding: Encoding) -> VideoStream:
    """Return the stream of enlarged frames: with the video's times, shape of pixels, tags of colour, language and title."""
    first = video.first
    assert first is not None
    stream = container.add_stream(encoding.codec, rate=video.rate, options=dict(encoding.options))
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    stream.height, stream.width = encoding.target.size
    stream.pix_fmt = encoding.target.form.name
    stream.time_base = context.time_base = encoding.time_base
    context.flags |= Flags.frame_duration
    rgb = is_rgb(first.format) or first.colorspace == RGB_MATRIX
    full = first.color_range == FULL_RANGE or first.format.name.startswith("yuvj")
    context.color_range = 1 if is_rgb(first.format) else FULL_RANGE if full else first.color_range
    context.colorspace = BT709 if rgb else first.colorspace
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
    if encoding.target.aspect:
        context.sample_aspect_ratio = encoding.target.aspect
    stream.metadata.update(stream_tags(video.stream))
    stream.disposition = video.stream.disposition
    return stream


def working_file(output: Path) -> Path:
    """Return a new empty file beside ``output``: NAME.part.mp4, or NAME.part2.mp4 where a stopped run left that.

    Where ``output`` is a link, it lies beside the file the link points to.

    Raises:
        InputError: ``output`` cannot be a file.
        MachineError: the folder cannot be written.
    """
    try:
        target = output.resolve()
        if target.exists() and not target.is_file():
            raise InputError(f"{output}: not a regular file; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = target.with_name(f"{target.stem}.part{'' if number == 1 else number}{target.suffix}")
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o666))
                return path
    except (OSError, RuntimeError) as err:
        said = "a loop of links" if isinstance(err, RuntimeError) else err.strerror
        known = isinstance(err, RuntimeError) or err.errno in WRONG_NAME
        full = isinstance(err, OSError) and err.errno in DISK_FULL
        kind = InputError if known else DiskFullError if full else MachineError
        raise kind(f"{output}: cannot be written ({said}); choose another place") from err
    raise AssertionError("count() ends never")


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one line.

    Raises:
        MachineError: the disk is full (``DiskFullError``) or fails.
        InputError: the container rejects what it gets.
    """
    try:
        yield
    except OSError as err:
        kind = DiskFullError if err.errno in DISK_FULL else MachineError
        raise kind(f"{output}: writing failed ({err.strerror}); make room on the disk, or choose another place") from err
    except av.FFmpegError as err:
        raise InputError(
            f"{output}: rejected by the container ({err.strerror}); choose another suffix, .mkv for example"
        ) from err

"""Short videos for the tests, made by PyAV as they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sr_deploy.runtime.video.frames import parse_format, plane_view

MILLISECOND = Fraction(1, 1000)
AUDIO_RATE = 8000


@dataclass(frozen=True)
class Clip:
    """What a video is made of; noise that moves, unless ``frames`` says otherwise."""

    size: tuple[int, int] = (40, 30)  # (w, h)
    count: int = 6
    form: str = "yuv420p"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "0", "preset": "ultrafast"})
    pts: Sequence[int] | None = None  # in milliseconds; 40 apart by default
    color_range: int = 1
    tags: tuple[int, int, int] = (2, 2, 2)  # matrix, primaries, transfer
    aspect: Fraction | None = None
    matrix: Sequence[int] | None = None  # display matrix
    audio: bool = False
    interlaced: bool = False
    luma: NDArray[np.uint8] | NDArray[np.uint16] | None = None  # of every frame
    colour: NDArray[np.uint8] | NDArray[np.uint16] | None = None

    @property
    def times(self) -> list[int]:
        """When each frame is shown, in milliseconds."""
        return list(self.pts) if self.pts is not None else [40 * i for i in range(self.count)]


def write(path: Path, clip: Clip = Clip()) -> Path:
    """Write a video and return its path."""
    with av.open(str(path), "w") as container:
        video = _video(container, clip)
        audio = container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=AUDIO_RATE) if clip.audio else None
        container.metadata["title"] = "a title"
        for index, pts in enumerate(clip.times):
            container.mux(video.encode(frame_of(clip, index, pts)))
            if isinstance(audio, AudioStream):
                container.mux(audio.encode(sound(index)))
        container.mux(video.encode(None))
        if isinstance(audio, AudioStream):
            container.mux(audio.encode(None))
    return path


def _video(container: av.container.OutputContainer, clip: Clip) -> VideoStream:
    video = container.add_stream(clip.codec, rate=25, options=dict(clip.options))
    assert isinstance(video, VideoStream)
    context = video.codec_context
    video.width, video.height = clip.size
    video.pix_fmt = clip.form
    if clip.codec != "mpeg4":
        context.time_base = MILLISECOND
    context.color_range = clip.color_range
    context.colorspace, context.color_primaries, context.color_trc = clip.tags
    if clip.aspect is not None:
        context.sample_aspect_ratio = clip.aspect
    if clip.interlaced:
        context.options["x264-params"] = "interlaced=1"
    if clip.matrix is not None:
        video.set_display_matrix(clip.matrix)
    video.metadata["title"] = "the pictures"
    return video


def frame_of(clip: Clip, index: int, pts: int) -> av.VideoFrame:
    """Return a frame with content."""
    frame = av.VideoFrame(*clip.size, clip.form)
    form = parse_format(clip.form)
    if form is None:
        rgb = np.random.default_rng(index).integers(0, 256, (clip.size[1], clip.size[0], 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=clip.form)
    else:
        rng = np.random.default_rng(index)
        top = 1 << form.depth
        for number in range(len(frame.planes)):
            plane = plane_view(frame, number, form)
            given = clip.luma if number == 0 else clip.colour
            plane[...] = rng.integers(top // 8, top * 7 // 8, plane.shape) if given is None else given
    frame.pts, frame.time_base = pts, MILLISECOND
    return frame


def sound(index: int) -> av.AudioFrame:
    """Return 40 ms of noise."""
    values = np.random.default_rng(index).integers(-9000, 9000, (1, AUDIO_RATE // 25)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(values, "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, index * AUDIO_RATE // 25, Fraction(1, AUDIO_RATE)
    return frame


def frames(path: Path) -> list[av.VideoFrame]:
    """Return all frames of a video."""
    with av.open(str(path)) as container:
        return list(container.decode(container.streams.video[0]))


def luma_planes(path: Path) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
    """Return the luma of all frames, (h, w) each, copied."""
    found: list[NDArray[np.uint8] | NDArray[np.uint16]] = []
    for frame in frames(path):
        form = parse_format(frame.format.name)
        assert form is not None
        found.append(plane_view(frame, 0, form).copy())
    return found


def shown_ms(path: Path) -> list[int]:
    """Return when each frame is shown, in milliseconds."""
    return [round(1000 * frame.pts * frame.time_base) for frame in frames(path) if frame.pts is not None and frame.time_base]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    """Return the packets of the first stream of a kind, and their times in seconds."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(bytes(p), p.pts * p.time_base) for p in container.demux(stream) if p.size and p.pts is not None]

"""The streams of a video that are not enlarged: which of them the result can hold, and how they get there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.stream import AttachmentStream, Stream

from sr_deploy.runtime.video.names import Container
from sr_deploy.runtime.video.source import Video, is_cover, open_container

TS_CODECS = frozenset(
    {
        "h264",
        "hevc",
        "mpeg2video",
        "mpeg4",
        "aac",
        "mp2",
        "mp3",
        "mp3float",
        "ac3",
        "eac3",
        "opus",
        "dca",
        "dvbsub",
        "dvb_teletext",
    }
)  # MPEG-TS takes anything, and what it does not know no player finds
FILE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "number_of_frames"})
STREAM_TAGS = FILE_TAGS | {"vendor_id", "bps", "number_of_bytes", "_statistics_tags", "_statistics_writing_app"}
LAYOUTS = {"1 channels": "mono", "2 channels": "stereo"}  # of sound that names none: MP4 wants a name
NEAR = 200  # packets of the other streams that are looked at
MIME = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


def sort_streams(video: Video, kind: Container) -> tuple[list[Stream], list[Stream]]:
    """Return the other streams of a video that go into the result, and those that it cannot hold.

    A track that MP4 uses for its chapters is in neither: chapters are written again.
    """
    chapters = bool(video.container.chapters())
    samples = first_packets(video.path, [stream.index for stream in video.others])
    kept: list[Stream] = []
    lost: list[Stream] = []
    for stream in video.others:
        if chapters and stream.type == "data" and stream.name == "bin_data":
            continue
        (kept if holds(kind, stream, samples.get(stream.index)) else lost).append(stream)
    return kept, lost


def holds(kind: Container, stream: Stream, sample: Packet[Stream] | None) -> bool:
    """Return whether a container takes a stream as it is: tried on a file in memory, with its first packet where there is one."""
    if isinstance(stream, AttachmentStream):
        return kind.format == "matroska"
    if stream.type not in ("video", "audio", "subtitle") or (stream.type == "video" and not is_cover(stream)):
        return False
    if is_cover(stream) and kind.format == "matroska":
        return sample is not None and stream.codec_context is not None and stream.codec_context.name in MIME
    if stream.codec_context is None or (kind.format == "mpegts" and (stream.codec_context.name not in TS_CODECS)):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=kind.format) as trial:
            new = copy_stream(trial, stream)
            trial.start_encoding()
            if sample is not None:
                sample.stream = new
                trial.mux_one(sample)
    except (av.FFmpegError, UnknownCodecError, ValueError):
        return False
    return True


def copy_stream(container: OutputContainer, stream: Stream) -> Stream:
    """Return a new stream of ``container`` that takes the packets of another file's."""
    new: Stream = container.add_stream_from_template(stream)
    new.metadata.update(stream_tags(stream))
    new.disposition = stream.disposition
    if isinstance(stream, AudioStream) and stream.codec_context.layout.name in LAYOUTS and isinstance(new, AudioStream):
        new.codec_context.layout = LAYOUTS[stream.codec_context.layout.name]
    return new


def add_streams(container: OutputContainer, video: Video, kept: Sequence[Stream]) -> dict[int, Stream]:
    """Add the kept streams of a video to its result; return the new ones that take packets, by the index of the old."""
    found: dict[int, Stream] = {}
    for stream in kept:
        if isinstance(stream, AttachmentStream):
            container.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data)
        elif is_cover(stream) and container.format.name == "matroska":
            assert stream.codec_context is not None
            name, mime = MIME[stream.codec_context.name]
            container.add_attachment(name, mime, cover_bytes(video.path, stream.index))
        else:
            found[stream.index] = copy_stream(container, stream)
    return found


def first_packets(path: Path, indices: Sequence[int]) -> dict[int, Packet[Stream]]:
    """Return the first packet of each of the streams ``indices`` of a video that has one near the beginning."""
    found: dict[int, Packet[Stream]] = {}
    if indices:
        with open_container(path) as container, suppress(av.FFmpegError):
            for packet in islice(container.demux(*(container.streams[index] for index in indices)), NEAR):
                if packet.size:
                    found.setdefault(packet.stream_index, packet)
                if len(found) == len(indices):
                    break
    return found


def cover_bytes(path: Path, index: int) -> bytes:
    """Return the file of the cover picture that is stream ``index`` of a video."""
    return bytes(first_packets(path, [index])[index])


def stream_tags(stream: Stream) -> dict[str, str]:
    """Return the tags of a stream that stay true in another file."""
    return {key: value for key, value in stream.metadata.items() if key.lower().split("-")[0] not in STREAM_TAGS}


def file_tags(video: Video) -> dict[str, str]:
    """Return the tags of a video that stay true in another file."""
    return {key: value for key, value in video.container.metadata.items() if key.lower() not in FILE_TAGS}


def describe(stream: Stream) -> str:
    """Return what to call a stream in a message: ``stream 3 (subtitle, subrip, eng)``."""
    codec = stream.codec_context.name if stream.codec_context is not None else stream.name
    facts = [stream.type, codec, stream.metadata.get("language")]
    return f"stream {stream.index} ({', '.join(fact for fact in facts if fact and fact != 'und')})"

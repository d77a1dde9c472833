"""What enlarged frames are written as: pixel format, size and shape of pixels, as near to the video's as the encoder comes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
from av import VideoFrame

from sr_deploy.errors import InputError
from sr_deploy.runtime.video.frames import UPRIGHT, closest_format, hdr_of, planar_format, turn_of
from sr_deploy.runtime.video.source import Picture, Video
from sr_deploy.runtime.video.upscale import Target

ODD_SIDES = frozenset({"ffv1", "libvpx-vp9"})  # encoders of odd sizes in subsampled formats; others get a row or a column more
SHAPED = ("libx264", "libx265", "h264", "hevc", "mpeg")  # encoders that write the shape of pixels themselves


def check_codec(name: str) -> str:
    """Return the name of an encoder of moving pictures.

    Raises:
        InputError: this PyAV has none of that name.
    """
    try:
        codec = av.codec.Codec(name, "w")
    except ValueError as err:
        raise InputError(f"--codec {name}: PyAV has no such encoder; it has libx264, for example") from err
    if codec.type != "video":
        raise InputError(f"--codec {name}: encodes {codec.type}, not moving pictures; use libx264, for example")
    return name


def choose_target(video: Video, first: Picture, codec: str, scale: int, warn: Callable[[str], None]) -> Target:
    """Return what the frames become: the video's own pixel format where the encoder has it, else the nearest."""
    assert video.first is not None
    if video.first.format.name.startswith("xyz"):
        raise InputError(f"{video.path}: holds XYZ colours; convert it first, with ffmpeg -pix_fmt yuv444p12le, for example")
    wanted = planar_format(video.first.format)
    form = closest_format(wanted, [f.name for f in av.codec.Codec(codec, "w").video_formats or ()])
    if form is None:
        raise InputError(f"--codec {codec}: takes no planar Y'CbCr frames; use libx264")
    for held, what in (
        (form.depth >= wanted.depth, f"{wanted.depth}-bit samples"),
        ((form.alpha and wanted.alpha) or not has_alpha(video.first), "alpha"),
    ):
        if not held:
            warn(f"{video.path}: has {what}, which {codec} does not hold: written as {form.name}")
    if hdr_of(video.first):
        warn(f"{video.path}: its HDR metadata ({', '.join(hdr_of(video.first))}) is left out; its colour tags are kept")
    aspect = shown_aspect(video)
    if aspect not in (None, 1) and not codec.startswith(SHAPED):
        shape = f"{video.stream.sample_aspect_ratio}".replace("/", ":")
        warn(f"{video.path}: has pixels of shape {shape}, which PyAV cannot write with {codec}: they become square")
    h, w = first.shot.luma.shape
    across, down = (1, 1) if codec in ODD_SIDES else form.steps
    large = -(-h * scale // down) * down, -(-w * scale // across) * across
    return Target(form, large, scale, aspect)


def has_alpha(frame: VideoFrame) -> bool:
    """Return whether frames carry transparency, in planes of their own or packed with colours."""
    return any(part.is_alpha for part in frame.format.components)


def shown_aspect(video: Video) -> Fraction | None:
    """Return the shape of a pixel of the upright video, width over height; ``None`` where it says nothing."""
    aspect = video.stream.sample_aspect_ratio
    if not aspect or video.first is None:
        return None
    turned = turn_of(video.first) != UPRIGHT and turn_of(video.first)[0] == 0
    return 1 / Fraction(aspect) if turned else Fraction(aspect)

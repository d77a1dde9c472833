"""Frames as PyAV has them, and as arrays: pixel formats, planes, tags of colour, and frames turned upright.

A frame that carries a display matrix (videos of telephones) is turned before it is enlarged, and the result carries none: it is
upright everywhere, in players and containers that know no rotation too. FFmpeg and this project's pictures do the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import SideData
from av.video.format import VideoFormat
from numpy.typing import NDArray

from sr_deploy.runtime.video.coding import KR_KB, SD_HEIGHT, Coding, Samples, Sites, planes_from_rgb

PLANAR = re.compile(r"(?P<kind>yuvj|yuva|yuv|gray)(?P<sub>444|440|422|420|411|410)?p?(?P<depth>9|10|12|14|16)?(le)?")
STEPS = {"444": (1, 1), "440": (1, 2), "422": (2, 1), "420": (2, 2), "411": (4, 1), "410": (4, 4)}  # luma pixels a colour sample
SUBSAMPLINGS = {steps: name for name, steps in STEPS.items()}
FULL_RANGE, RGB_MATRIX, BT709 = 2, 0, 1  # ITU-T H.273 and FFmpeg's numbers
CENTRED = frozenset({"mjpeg", "mpeg1video"})  # decoders of what puts colour samples midway in both directions
HDR = frozenset({"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DOVI_METADATA", "DOVI_RPU_BUFFER"})

UPRIGHT = (1, 0, 0, 1)
Turn = tuple[int, int, int, int]
"""Signs of the display matrix's a, b, c, d (ISO/IEC 14496-12, 6.2.2): a pixel (x, y) is shown at (a x + c y, b x + d y)."""


@dataclass(frozen=True)
class PixelFormat:
    """A planar format of Y'CbCr or grey."""

    steps: tuple[int, int] = (2, 2)  # luma pixels a colour sample, across and down
    depth: int = 8
    grey: bool = False
    alpha: bool = False

    @property
    def name(self) -> str:
        """FFmpeg's name."""
        bits = "" if self.depth == 8 else f"{self.depth}le"
        return f"gray{bits}" if self.grey else f"yuv{'a' if self.alpha else ''}{SUBSAMPLINGS[self.steps]}p{bits}"

    @property
    def colour_share(self) -> float:
        """Colour samples for each luma sample, of each of the two planes."""
        return 0.0 if self.grey else 1.0 / (self.steps[0] * self.steps[1])


@dataclass(frozen=True)
class Shot:
    """One frame as planes, upright."""

    luma: Samples
    colour: tuple[Samples, Samples] | None  # Cb, Cr
    alpha: Samples | None
    coding: Coding


def parse_format(name: str) -> PixelFormat | None:
    """Return a planar format by its name, or ``None`` where it is another kind (RGB, packed, big-endian)."""
    found = PLANAR.fullmatch(name)
    if found is None or (found["kind"] == "gray") is not (found["sub"] is None):
        return None
    depth = int(found["depth"] or 8)
    return PixelFormat(STEPS[found["sub"] or "444"], depth, found["kind"] == "gray", found["kind"] == "yuva")


def is_rgb(form: VideoFormat) -> bool:
    """Return whether frames of a format hold red, green and blue."""
    return form.is_rgb or form.name == "pal8"


def planar_format(form: VideoFormat) -> PixelFormat:
    """Return the planar format that holds what frames of any format hold; for RGB, 4:4:4 of the same depth."""
    known = parse_format(form.name)
    if known is not None:
        return known
    bits = max(part.bits for part in form.components)
    depth = next((d for d in (8, 9, 10, 12, 14) if bits <= d), 16)
    if is_rgb(form):
        return PixelFormat((1, 1), depth)
    steps = 8 // form.chroma_width(8), 8 // form.chroma_height(8)
    colour = sum(not part.is_alpha for part in form.components) >= 3  # where chroma is not subsampled, nothing else tells
    return PixelFormat(steps if steps in SUBSAMPLINGS else (1, 1), depth, grey=not colour)


def closest_format(wanted: PixelFormat, names: Iterable[str]) -> PixelFormat | None:
    """Return the format among an encoder's that loses least of ``wanted``, and then adds least; ``None`` where none is planar."""

    def cost(found: PixelFormat) -> tuple[float, ...]:
        depth, colour = found.depth - wanted.depth, found.colour_share - wanted.colour_share
        extra = max(colour, 0.0), max(depth, 0), found.alpha and not wanted.alpha, found.steps != wanted.steps
        return (-min(depth, 0), -min(colour, 0.0), wanted.alpha and not found.alpha, *extra)

    known = [form for form in map(parse_format, names) if form is not None]
    usable = [form for form in known if not form.grey or wanted.grey]
    return min(usable, key=cost, default=None)


def turn_of(frame: VideoFrame) -> Turn:
    """Return how a frame is to be turned; ``UPRIGHT`` where it says nothing, or an angle that is no quarter."""
    for data in side_data(frame):
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(np.float64)
            size = max(abs(a), abs(b), 1.0)
            signs = tuple(round(v / size) if abs(v) > 0.01 * size else 0 for v in (a, b, c, d))
            quarter = {abs(v) for v in (signs[0], signs[3])} != {abs(v) for v in (signs[1], signs[2])}
            exact = all(abs(v) <= 0.01 * size or abs(abs(v) - size) <= 0.01 * size for v in (a, b, c, d))
            if quarter and exact:
                return signs[0], signs[1], signs[2], signs[3]
    return UPRIGHT


def side_data(frame: VideoFrame) -> list[SideData]:
    """Return what a frame carries beside its samples."""
    held = cast(Sequence[SideData], frame.side_data)  # by position too, whatever its stub says
    return [held[index] for index in range(len(held))]


def hdr_of(frame: VideoFrame) -> list[str]:
    """Return the names of the HDR metadata that a frame carries."""
    return [data.type.name for data in side_data(frame) if data.type.name in HDR]


def shot_from_frame(frame: VideoFrame, codec: str) -> Shot:
    """Return a frame as upright planes; its own memory where nothing has to be converted.

    Args:
        frame: of any pixel format.
        codec: the decoder's name.
    """
    form = planar_format(frame.format)
    if is_rgb(frame.format):
        return _turned(_shot_from_rgb(frame, form), turn_of(frame))
    plain = frame.format.name.replace("yuvj", "yuv")
    used = frame if plain == form.name else frame.reformat(format=form.name)
    planes = [plane_view(used, index, form) for index in range(len(used.planes))]
    colour = None if form.grey else (planes[1], planes[2])
    return _turned(Shot(planes[0], colour, planes[3] if form.alpha else None, coding_of(frame, form, codec)), turn_of(frame))


def coding_of(frame: VideoFrame, form: PixelFormat, codec: str) -> Coding:
    """Return what the code values of a decoded frame mean, by its tags and by convention where it has none."""
    full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    usual = KR_KB[6] if frame.height <= SD_HEIGHT else KR_KB[1]
    across, down = (Sites(step, (step - 1) / 2) for step in form.steps)
    if codec not in CENTRED:
        across = Sites(form.steps[0], 0.0)
    return Coding(form.depth, full, across, down, KR_KB.get(frame.colorspace, usual))


def target_coding(source: Coding, form: PixelFormat) -> Coding:
    """Return what code values mean in a result of the format ``form``: range and matrix stay."""
    across, down = Sites(form.steps[0], 0.0), Sites(form.steps[1], (form.steps[1] - 1) / 2)
    return replace(source, depth=form.depth, across=across, down=down)


def plane_view(frame: VideoFrame, index: int, form: PixelFormat) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a plane of a frame, (h, w), in the frame's own memory: writing into it writes into the frame."""
    plane = frame.planes[index]
    data = np.asarray(memoryview(plane))
    if form.depth == 8:
        return data.reshape(-1, plane.line_size)[: plane.height, : plane.width]
    deep: NDArray[np.uint16] = data.view(np.dtype("<u2"))
    return deep.reshape(-1, plane.line_size // 2)[: plane.height, : plane.width]


def _shot_from_rgb(frame: VideoFrame, form: PixelFormat) -> Shot:
    """Return Y'CbCr 4:4:4 of BT.709 in limited range, unrounded, from a frame of RGB."""
    deep = form.depth > 8
    rgb = np.moveaxis(np.asarray(frame.to_ndarray(format="rgb48le" if deep else "rgb24"), np.float32), -1, 0)
    coding = Coding(form.depth, weights=KR_KB[BT709])
    luma, cb, cr = planes_from_rgb(rgb / np.float32(65535.0 if deep else 255.0), coding)
    return Shot(luma, (cb, cr), None, coding)


def _turned(shot: Shot, turn: Turn) -> Shot:
    """Return a shot as its display matrix shows it (views)."""
    if turn == UPRIGHT:
        return shot
    h, w = shot.luma.shape
    a, b, c, d = turn
    across, down = shot.coding.across, shot.coding.down
    colour = (h, w) if shot.colour is None else shot.colour[0].shape
    if a == 0:  # rows become columns
        across, down, (h, w), colour = down, across, (w, h), (colour[1], colour[0])
    mirrored, upended = (c < 0, b < 0) if a == 0 else (a < 0, d < 0)
    across = across.flipped(w, colour[1]) if mirrored else across
    down = down.flipped(h, colour[0]) if upended else down

    def turned(plane: Samples) -> Samples:
        plane = plane.T if a == 0 else plane
        return plane[:: -1 if upended else 1, :: -1 if mirrored else 1]

    planes = None if shot.colour is None else (turned(shot.colour[0]), turned(shot.colour[1]))
    alpha = None if shot.alpha is None else turned(shot.alpha)
    return Shot(turned(shot.luma), planes, alpha, replace(shot.coding, across=across, down=down))

"""The frames of an animation and the 8-bit pages of a TIFF behind the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sr_deploy.errors import InputError
from sr_deploy.pictures import ORIENTATION, Reading, check_declared, exif_of, is_deep
from sr_deploy.runtime.pictures.colour import fitting_profile, misfit_of, pixels_of
from sr_deploy.runtime.pictures.orientation import upright
from sr_deploy.runtime.pictures.picture import Frames, Picture
from sr_deploy.runtime.pictures.samples import Pixels


def with_frames(picture: Picture, image: Image.Image, path: Path, reading: Reading) -> Picture:
    """Return a picture with all its frames; those of an animation in one mode."""
    found, durations, area, turn = [], [], 0, exif_of(image).get(ORIENTATION)
    loop = image.info.get("loop")
    if picture.format == "gif":  # it counts repetitions, and not to be repeated is to have no count
        loop = 1 if loop is None else loop + 1 if loop else 0
    hidden = bool(image.info.get("default_image"))  # of an animated PNG: shown by programs that know no animation, no frame of it
    for number in range(int(hidden), picture.frames):
        image.seek(number)
        area += image.width * image.height
        check_declared(path, image.size, reading, area=area)
        if is_deep(image) and image.mode != "CMYK":
            raise InputError(f"{path}: pages of 16 bits or floats behind one of 8 bits; leave --frames out for the first")
        image.load()
        found.append(upright(pixels_of(image), turn))
        durations.append(int(image.info.get("duration", 0)))
    if picture.format == "tiff":
        return replace(picture, rest=Frames(tuple(found[1:])))
    if all(pixels.shape[2] in (2, 4) and (pixels[..., -1] == 255).all() for pixels in found):  # Pillow gives WebP's so
        found = [np.ascontiguousarray(pixels[..., :-1]) for pixels in found]
    found = [in_channels(pixels, max(pixels.shape[2] for pixels in found)) for pixels in found]
    profile, channels = picture.icc_profile, found[0].shape[2]
    beside = replace(picture.beside, lost=picture.beside.lost + misfit_of(profile, channels))
    profile = fitting_profile(profile, channels)
    rest = Frames(tuple(found[1:]), tuple(durations), int(loop or 0))
    return replace(picture, pixels=found[0], icc_profile=profile, frames=len(found), rest=rest, beside=beside)


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return (h, w, c) in more channels: grey three times, opaque alpha."""
    if pixels.shape[2] == channels:
        return pixels
    colours = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 and channels >= 3 else pixels
    if colours.shape[2] == channels:
        return colours
    return np.concatenate([colours, np.full((*colours.shape[:2], 1), 255, colours.dtype)], axis=2)

"""Colour of decoded pictures: every mode of Pillow to grey or RGB samples, with or without alpha, that look the same.

RGB and grey samples stay as they are and keep their profile. CMYK is brought to sRGB by its own profile, relative colorimetric
with black point compensation, and by Pillow's plain formula where it has none; Lab (D50) is brought to sRGB.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from sr_deploy.planes import is_grey

TRANSPARENT = ("LA", "RGBA", "PA", "La", "RGBa")
BLACK_POINT_COMPENSATION = 0x2000  # littleCMS's cmsFLAGS_BLACKPOINTCOMPENSATION
SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}  # by channels; header field "colour space of data", ICC.1:2022 7.2.8

NO_SPACES = (b"link", b"abst", b"nmcl")  # classes of profiles that describe no picture's colours, 7.2.5
CONVERTED = {"CMYK": b"CMYK", "LAB": b"Lab "}  # Pillow's modes that are brought to sRGB, and the space of their profiles


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return uint8 (h, w, c) in the fewest channels that hold a decoded picture of 8 bits."""
    if image.mode in ("CMYK", "LAB"):
        return np.asarray(srgb_from(image))
    if image.mode == "La":  # Pillow converts it into nothing else
        image = image.convert("LA")
    transparent = image.mode in TRANSPARENT or "transparency" in image.info
    if is_grey(image) and transparent:
        # Through RGBA: Pillow resolves a transparency key of a grey picture only there.
        rgba = np.asarray(image.convert("RGBA"))
        return np.ascontiguousarray(rgba[..., (0, 3)])
    mode = "L" if is_grey(image) else "RGBA" if transparent else "RGB"
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def spread_key_(image: Image.Image) -> None:
    """Bring the transparency key of a grey PNG of 2 or 4 bits to 8 bits, as Pillow brings its samples; before they are read."""
    tiles = getattr(image, "tile", ())
    key, bits = image.info.get("transparency"), {"L;2": 2, "L;4": 4}.get(str(tiles[0].args) if tiles else "")
    if image.format == "PNG" and isinstance(key, int) and bits:
        image.info["transparency"] = (key & (2**bits - 1)) * (
            255 // (2**bits - 1)
        )  # only the bits of a sample count: PNG 11.3.1.1


def srgb_from(image: Image.Image) -> Image.Image:
    """Return a CMYK or Lab picture in sRGB."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        found = ImageCms.applyTransform(image, transform)
        assert found is not None
        return found
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile[16:20] == b"CMYK":
        try:
            found = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(BytesIO(profile)),
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags(BLACK_POINT_COMPENSATION),
            )
        except (ImageCms.PyCMSError, OSError):  # a profile that littleCMS cannot read is none
            found = None
        if found is not None:
            return found
    return image.convert("RGB")


def rgb_from_lab16(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return sRGB, uint8 (h, w, 3), from CIELAB as TIFF has it in 16 bits: (h, w, 3), a and b signed."""
    signed = samples.view(np.int16)
    octets = np.clip((signed.astype(np.int32) + 128) >> 8, -128, 127).astype(np.int8).view(np.uint8)
    octets[..., 0] = np.rint(samples[..., 0] / 257.0)
    h, w, _ = octets.shape
    return np.asarray(srgb_from(Image.frombytes("LAB", (w, h), octets.tobytes())))


def rgb_from_grey(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8] | None:
    """Return grey pixels of a grey profile, (h, w, 1 or 2), in sRGB, (h, w, 3 or 4); ``None`` where the profile is damaged."""
    grey = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    try:
        found = ImageCms.profileToProfile(
            grey,
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    return np.concatenate([np.asarray(found), pixels[..., 1:]], axis=2)


def fitting_profile(profile: object, channels: int, mode: str = "") -> bytes | None:
    """Return an ICC profile where it is one for pixels of so many channels, made from a picture of Pillow's ``mode``."""
    fits = isinstance(profile, bytes) and profile[16:20] == SPACES[channels] and profile[12:16] not in NO_SPACES
    return profile if isinstance(profile, bytes) and fits and mode not in CONVERTED else None


def misfit_of(profile: object, channels: int, mode: str = "") -> tuple[str, ...]:
    """Return in words a profile that no result has, because it does not fit its picture; nothing where one fits or none is."""
    if not profile or not isinstance(profile, bytes) or fitting_profile(profile, channels, mode):
        return ()
    space = profile[16:20]
    if space == CONVERTED.get(mode):  # that conversion to sRGB went by
        return ()
    shown = mode if mode in CONVERTED else "RGB" if channels >= 3 else "grey"
    return (f"a colour profile that does not fit ({space.decode('latin-1').strip() or 'none'}, the picture is {shown})",)

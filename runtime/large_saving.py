"""How a result that is written by rows is stored: its format, and what it carries besides pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_deploy.errors import InputError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
MOST = {"PNG": 2**31 - 1, "JPEG": 65500, "TIFF": 2**31 - 1}  # pixels of a side; of JPEG that of libjpeg, the format ends at 65535


@dataclass(frozen=True)
class Saving:
    """What is asked of a result's file."""

    format: str = "PNG"  # or JPEG, TIFF
    quality: int = 95  # of JPEG, 1 to 100
    subsampling: str = "4:2:0"  # of JPEG's chroma
    icc_profile: bytes | None = None  # of the same colour space as the pixels
    exif: bytes | None = None  # without an orientation; the pixels are upright

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: an unknown format or a quality outside 1 to 100.
        """
        if self.format not in MOST:
            raise ValueError(f"format {self.format!r}; by rows {', '.join(MOST)} are written")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality}; it is 1 to 100")


def format_of(path: Path) -> str:
    """Return the format that a result's name asks for.

    Raises:
        InputError: it is none that can be written by rows.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"{path}: a picture too large for the memory is written by rows, as PNG, JPEG or TIFF, not as "
            f"{path.suffix or 'a file without a suffix'}; choose one of them, or allow more with --memory"
        )
    return found


def check_holds(saving: Saving, shape: tuple[int, int, int], dtype: np.dtype[np.generic], path: Path) -> None:
    """Check that a format can hold a result.

    Raises:
        InputError: the result is too large for it, has transparency, or samples that are too deep.
    """
    height, width, channels = shape
    most = MOST[saving.format]
    if max(height, width) > most:
        raise InputError(f"{path}: {width}x{height} pixels, {saving.format} holds {most} a side; write it as TIFF or PNG")
    if saving.format == "JPEG" and (channels in (2, 4) or dtype.itemsize > 1):
        what = "transparency" if channels in (2, 4) else f"{8 * dtype.itemsize}-bit samples"
        raise InputError(f"{path}: JPEG holds no {what}; write it as PNG or TIFF")

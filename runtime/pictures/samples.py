"""What the numbers of a picture stand for: samples of 8 bits, 16 bits or float, and grey levels from 0 (black) to 255 (white).

Networks see grey levels over 255 whatever the picture's depth is. Unsigned samples span their type, 0 to 255 or 0 to 65535. A
16-bit picture whose largest sample fits into 12 bits or fewer is taken to hold that many bits, at least 8: its white is 4095,
say, else the network would see it black. Float samples within [0, 1] are taken as they are; a float picture with any value
outside is brought to [0, 1] by its own least and largest value, and its result back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError

Pixels = NDArray[np.uint8 | np.uint16 | np.float32]
"""A picture: uint8, uint16 or float32 (h, w, c); c is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""

Levels = NDArray[np.float32]
"""Grey levels, nominally 0 to 255, neither rounded nor clipped: float32."""

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
LEAST_RANGE, LARGEST_RANGE = 255.0 * float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # of floats
NARROW_BITS = 12  # the deepest samples that are kept in 16 bits without being spread over them


@dataclass(frozen=True)
class Samples:
    """The samples of black and of white."""

    dtype: np.dtype[np.uint8] | np.dtype[np.uint16] | np.dtype[np.float32]
    black: float
    white: float

    def levels(self, pixels: Pixels) -> Levels:
        """Return grey levels of the same shape, a new array."""
        found = pixels.astype(np.float32)
        if (self.black, self.white) != (0.0, 255.0):
            found -= np.float32(self.black)
            found *= np.float32(255.0 / (self.white - self.black))
        return found

    def stored(self, levels: Levels) -> Pixels:
        """Return samples of the same shape: rounded and clipped to black and white where they are integers, else as they are."""
        found = levels * np.float32((self.white - self.black) / 255.0)
        if self.dtype == np.float32:
            return np.asarray(found + np.float32(self.black), np.float32)
        np.clip(np.rint(found, out=found), self.black, self.white, out=found)
        return found.astype(np.uint8) if self.dtype == np.uint8 else found.astype(np.uint16)


def nominal(dtype: np.dtype[np.generic]) -> Samples:
    """Return the samples of a type: 0 to its largest integer, or 0 to 1.

    Raises:
        ValueError: another type than uint8, uint16 and float32.
    """
    if dtype not in DTYPES:
        raise ValueError(f"a picture of {dtype} samples; bring them to uint8, uint16 or float32")
    return Samples(np.dtype(dtype), 0.0, 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max))  # type: ignore[type-var,arg-type]


def samples_of(colours: Pixels) -> Samples:
    """Return what the samples of a picture stand for, alpha left out.

    Raises:
        ValueError: another type than uint8, uint16 and float32.
        InputError: a value is not a finite number, or their range is none that float32 computes with.
    """
    usual = nominal(colours.dtype)
    if colours.dtype == np.uint16:
        bits = int(colours.max(initial=0)).bit_length()
        return usual if bits > NARROW_BITS else Samples(usual.dtype, 0.0, float(2 ** max(bits, 8) - 1))
    if colours.dtype == np.float32:
        least, largest = float(colours.min(initial=np.inf)), float(colours.max(initial=-np.inf))
        if not (np.isfinite(least) and np.isfinite(largest)):
            raise InputError("a float picture holds values that are no finite numbers; replace them first")
        if least < 0.0 or largest > 1.0:
            white = largest if largest > least else least + max(1.0, abs(least) / 2**20)
            if not LEAST_RANGE <= white - least <= LARGEST_RANGE:
                raise InputError(
                    f"a float picture from {least:g} to {largest:g}, a range that float32 cannot be scaled by; scale it first"
                )
            return Samples(usual.dtype, least, white)
    return usual

"""Colours under full transparency, replaced by those of their visible neighbours before a picture is enlarged.

A fully transparent pixel has a colour nobody sees, black as a rule. Bicubic and network would mix it into its visible neighbours
and draw a dark line along every cut-out. So hidden pixels get the mean of the visible ones around them, in windows that grow, as
far as ``REACH``; further away, the mean of all visible pixels. Visible pixels stay as they are. What a pixel gets depends on no
more than ``REACH`` rows around it and on that mean, so a picture filled band by band is the picture filled at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sr_deploy.runtime.pictures.samples import Levels, Pixels, Samples

STEPS = (1, 2, 4, 8, 16)  # half sides of the windows
REACH = sum(STEPS)
ROWS = 256  # looked at at once


@dataclass(frozen=True)
class Hidden:
    """A picture with fully transparent pixels."""

    pixels: Pixels  # (h, w, 2 or 4), alpha last
    samples: Samples
    mean: Levels  # of the visible pixels, (1 or 3)

    def colours(self, first: int, last: int) -> Levels:
        """Return the colours of rows ``[first, last)`` with the hidden ones replaced: float32 (n, w, 1 or 3)."""
        top = max(first - REACH, 0)
        part = self.pixels[top : last + REACH]
        inside = slice(first - top, last - top)
        seen = part[..., -1] > 0
        if seen[inside].all():
            return self.samples.levels(part[inside, :, :-1])
        return fill_hidden_(self.samples.levels(part[..., :-1]), seen, self.mean)[inside]


def hidden_in(pixels: Pixels, samples: Samples) -> Hidden | None:
    """Return what hides under the transparency of (h, w, 2 or 4); ``None`` where nothing does, or nothing is visible."""
    total, count = np.zeros(pixels.shape[2] - 1), 0
    for top in range(0, len(pixels), ROWS):
        part = pixels[top : top + ROWS]
        seen = part[..., -1] > 0
        count += int(np.count_nonzero(seen))
        total += part[..., :-1].sum(axis=(0, 1), where=seen[..., None], dtype=np.float64)
    if count in (0, pixels.shape[0] * pixels.shape[1]):
        return None
    mean = samples.levels((total / count).astype(np.float32))
    return Hidden(pixels, samples, mean)


def fill_hidden_(colours: Levels, seen: NDArray[np.bool_], mean: Levels) -> Levels:
    """Return ``colours`` with those that are not ``seen`` replaced, changed in place: float32 (h, w, c)."""
    known = seen.astype(np.float32)
    colours *= known[..., None]
    for half in STEPS:
        window = (2 * half + 1, 2 * half + 1)
        count = cv2.boxFilter(known, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
        new = (count > 0) & (known == 0)
        if not new.any():
            continue
        total = cv2.boxFilter(colours, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
        colours[new] = total.reshape(colours.shape)[new] / count[new][:, None]
        known[new] = 1.0
    colours[known == 0] = mean
    return colours

"""Pictures turned upright as their EXIF orientation asks for (CIPA DC-008, tag 274)."""

from __future__ import annotations

import numpy as np

from sr_deploy.runtime.pictures.samples import Pixels

KEPT, BACK = slice(None), slice(None, None, -1)
TURNS = {  # rows and columns exchanged first, then the order of rows and of columns
    2: (False, KEPT, BACK),
    3: (False, BACK, BACK),
    4: (False, BACK, KEPT),
    5: (True, KEPT, KEPT),
    6: (True, KEPT, BACK),
    7: (True, BACK, BACK),
    8: (True, BACK, KEPT),
}


def upright(pixels: Pixels, orientation: object) -> Pixels:
    """Return (h, w, c) turned and mirrored, rows one after the other; the same array where nothing is to be done."""
    if not isinstance(orientation, int) or orientation not in TURNS:
        return pixels
    exchanged, down, across = TURNS[orientation]
    turned: Pixels = pixels.swapaxes(0, 1) if exchanged else pixels
    return np.ascontiguousarray(turned[down, across])

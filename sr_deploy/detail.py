"""Whether pictures have enough in them to choose thresholds from or to measure on: flat, black and equal ones say nothing.

The detail of a tile is the root mean square of its gradient in grey levels: 3.5 or more in the photographs that the project
calibrates on, 0 in a flat one. Two tiles are alike where their thumbnails are.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from sr_deploy.degrade import Plane
from sr_deploy.errors import InputError
from sr_deploy.notes import NOTES

LEAST_DETAIL = 1.0  # grey levels
ALIKE, THUMBNAIL = 2.0, 32  # grey levels, root mean square, between thumbnails of so many pixels a side


def detail(luma: Plane) -> float:
    """Return the detail of a tile (h, w) in grey levels; a border that only repeats the last row or column is left out."""
    down, across = np.diff(luma, axis=0), np.diff(luma, axis=1)
    rows, columns = (np.flatnonzero(np.any(change != 0.0, axis=1 - axis)) for axis, change in enumerate((down, across)))
    if not rows.size and not columns.size:
        return 0.0
    h, w = (int(found[-1]) + 1 if found.size else 1 for found in (rows, columns))
    return float(np.sqrt(np.square(down[:h, : w + 1]).mean() + np.square(across[: h + 1, :w]).mean()))


def check_detail(tiles: Iterable[Plane], source: str, *, least: int, advice: str) -> None:
    """Warn where fewer than ``least`` tiles, luma in grey levels, have detail and differ from each other.

    Raises:
        InputError: none has detail.
    """
    details, thumbnails = [], list[Plane]()
    for luma in tiles:
        details.append(detail(luma))
        small = np.asarray(cv2.resize(luma, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.float32)
        if details[-1] >= LEAST_DETAIL and all(np.square(small - other).mean() >= ALIKE**2 for other in thumbnails):
            thumbnails.append(small)
    needed = f"{least} that differ and have a gradient of {LEAST_DETAIL:g} grey level or more are needed"
    if not thumbnails:
        raise InputError(
            f"{source}: none of {len(details)} tiles has detail (flat, black or white pictures; the largest mean gradient is "
            f"{max(details, default=0.0):.2f} grey levels); {needed}: {advice}"
        )
    if len(thumbnails) < least:
        NOTES.warning(f"{source}: {len(thumbnails)} of {len(details)} tiles can be relied on, {needed}: {advice}")

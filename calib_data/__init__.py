"""Photographs that come with the project: ``calibrate`` for thresholds, ``select`` for the accuracy guard."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def folder(name: Literal["calibrate", "select"]) -> Path:
    """Return the folder of one of the two sets."""
    return Path(__file__).resolve().parent / name

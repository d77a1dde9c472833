"""Flat pictures through the engines that ship: they stay flat, up to their borders and in their corners."""

from __future__ import annotations

import numpy as np
import pytest

from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.engines.shipped import Shipped, shipped_engines
from sr_deploy.runtime.upscaling.upscaling import upscale

COLOURS = [(0, 0, 0), (64, 64, 64), (128, 128, 128), (200, 200, 200), (255, 255, 255)]
COLOURS += [(255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 220, 40)]
ENGINES = [
    pytest.param(engine, id=engine.name, marks=() if engine.name.startswith("plain_") else pytest.mark.slow)
    for engine in shipped_engines()
]


@pytest.mark.parametrize("shipped", ENGINES)
def test_a_flat_picture_stays_flat_up_to_its_corners(shipped: Shipped) -> None:
    engine = load(shipped.path(), threads=1, exact=True)
    for colour in COLOURS:
        pixels = np.broadcast_to(np.array(colour, np.uint8), (40, 50, 3)).copy()
        found = upscale(engine, pixels, engine.card.default_scale).astype(int)
        assert np.abs(found - colour).max() <= 1, colour

"""What the tests of the loop train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.train.data.batches import DataConfig, PatchSource


@pytest.fixture
def data(photos: Path) -> PatchSource:
    """Patches of 16x16 of three small photographs at x2."""
    return PatchSource(DataConfig((photos,), (2,), 16, (1.0,)))

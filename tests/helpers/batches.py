"""What training reads, looked at."""

from __future__ import annotations

import torch

from sr_deploy.train.data.batches import Batch, PatchSource
from sr_deploy.train.data.picture_patches import PicturePatches


def pictures_of(source: PatchSource) -> PicturePatches:
    """Return the pictures that a source cuts patches from."""
    assert isinstance(source.samples, PicturePatches)
    return source.samples


def equal(a: Batch, b: Batch) -> bool:
    """Return whether two batches are the same."""
    return torch.equal(a.degraded, b.degraded) and torch.equal(a.original, b.original) and a.scale == b.scale

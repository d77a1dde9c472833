"""Small networks that are the same in every test."""

from __future__ import annotations

import torch

from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build


def vdsr(*widths: int, seed: int = 0) -> Network:
    """Return a VDSR as it begins to learn: that of the paper unless widths are given."""
    torch.manual_seed(seed)
    return build("vdsr", widths or None)

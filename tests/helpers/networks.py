"""Small networks that are the same in every test."""

from __future__ import annotations

import torch
from torch import nn

from sr_deploy.train.networks.registry import build


def vdsr(*widths: int, seed: int = 0) -> nn.Module:
    """Return a VDSR as it begins to learn: that of the paper unless widths are given."""
    torch.manual_seed(seed)
    return build("vdsr", widths or None)

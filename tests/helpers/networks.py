"""Small networks that are the same in every test."""

from __future__ import annotations

import torch

from sr_deploy.compress.pruning.allocation import Kept, channels_of, uniform
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build


def vdsr(*widths: int, seed: int = 0) -> Network:
    """Return a VDSR as it begins to learn: that of the paper unless widths are given."""
    torch.manual_seed(seed)
    return build("vdsr", widths or None)


def kept_at(network: Network, sparsity: float) -> Kept:
    """Return what every group of channels keeps at one sparsity."""
    return uniform(channels_of(network), sparsity)

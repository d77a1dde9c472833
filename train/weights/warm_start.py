"""Starting a network from the weights of another: the parts that fit are taken, the rest is named.

A narrower checkpoint grows: its weights become the leading channels, and what the new channels would add to the old
ones is set to zero, so the wider network computes the same picture at first, while the new channels keep their random
inputs and learn from the first step on (function-preserving growth in the spirit of Net2Net, Chen et al., ICLR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError


def warm_start_(network: nn.Module, state: dict[str, Tensor], *, source: str) -> list[str]:
    """Copy ``state`` into ``network`` and return a line for each tensor that was grown or left out.

    Raises:
        InputError: nothing fits.
    """
    notes, taken = [], 0
    own = network.state_dict()
    for name, target in own.items():
        value = state.get(name)
        if value is None:
            notes.append(f"{name}: not in {source}, starts fresh")
        elif not fits(value, target):
            notes.append(f"{name}: {tuple(value.shape)} does not fit into {tuple(target.shape)}, starts fresh")
        else:
            taken += 1
            grow_(target, value)
            if value.shape != target.shape:
                notes.append(f"{name}: grown from {tuple(value.shape)} to {tuple(target.shape)}")
    notes += [f"{name}: of {source}, not used" for name in state if name not in own]
    if not taken:
        raise InputError(f"{source}: none of its {len(state)} tensors fits this network; name a checkpoint of the same --arch")
    network.load_state_dict(own)
    return notes


def fits(value: Tensor, target: Tensor) -> bool:
    """Return whether a tensor has the form of another or can grow to it: by channels, never by the size of a kernel."""
    same_rank = value.dim() == target.dim()
    return (
        same_rank and value.shape[2:] == target.shape[2:] and all(a <= b for a, b in zip(value.shape, target.shape, strict=True))
    )


def grow_(target: Tensor, value: Tensor) -> None:
    """Write ``value`` into the leading corner of ``target`` and zero what new inputs add to old outputs."""
    with torch.no_grad():
        if value.dim():
            target[: value.shape[0]].zero_()
        target[tuple(slice(0, n) for n in value.shape)].copy_(value)

"""Which filters stay: those of largest L1 norm (Li et al., ICLR 2017), or those that matter most by other scores.

NNI's ``L1NormPruner`` decides by L1 norm where it is installed. Where it is not, ``native_masks`` makes the same masks; a test
holds both equal. A ``config_list`` of somebody's own is NNI's alone.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sr_deploy.compress.pruning.allocation import Kept, config_list_from
from sr_deploy.errors import InputError
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import convolutions

ConfigList = Sequence[Mapping[str, object]]
Backend = Literal["auto", "nni", "native"]
Masks = dict[str, Tensor]
"""Convolution -> bool (out_channels,), true for a filter that stays."""

Scores = Mapping[str, Tensor]
"""Convolution -> float (out_channels,), the more a filter matters the higher."""

RATIOS = ("sparsity", "sparsity_per_layer", "sparse_ratio")


def filter_masks(network: Network, kept: Kept, *, backend: Backend = "auto", scores: Scores | None = None) -> Masks:
    """Return which filters of which convolution stay where each group keeps so many channels; ``network`` is not changed.

    With ``scores`` those of least score go, natively, in place of those of least L1 norm.

    Raises:
        InputError: NNI is asked for and is not installed.
    """
    if backend == "nni" and not nni_installed():
        raise InputError("NNI is not installed; pip install 'sr-deploy[compress]', or use --pruner native")
    if scores is not None or backend == "native" or not nni_installed():
        return native_masks(network, kept, scores)
    return nni_masks(network, config_list_from(network, kept))


def native_masks(network: Network, kept: Kept, scores: Scores | None = None) -> Masks:
    """Return the masks that ``L1NormPruner`` gives for ``config_list_from(network, kept)``, or those of other ``scores``."""
    convs = convolutions(network)
    masks: Masks = {}
    for group, n in kept.items():
        rows = {name: l1_norms(convs[name].weight) if scores is None else scores[name] for name in group.producers}
        norms = torch.stack([rows[name].reshape(-1, block).sum(dim=1) for name, block in group.blocks.items()]).mean(dim=0)
        _, removed = norms.topk(len(norms) - n, largest=False)
        stays = torch.ones_like(norms, dtype=torch.bool).scatter(0, removed, False)
        masks |= {name: stays.repeat_interleave(block) for name, block in group.blocks.items()}
    return masks


def l1_norms(weight: Tensor) -> Tensor:
    """Return the L1 norm of every row of ``weight`` (out, ...): float (out,)."""
    return weight.detach().abs().flatten(1).sum(dim=1)


def masks_from_config(network: nn.Module, config_list: ConfigList) -> Masks:
    """Return which filters of which convolution stay by an NNI ``config_list``; ``network`` is not changed.

    Raises:
        InputError: NNI is not installed, or rejects the list; or the list has numbers that NNI takes without a word, selects
            nothing or something that is no convolution, prunes the output convolution, or removes a whole layer.
    """
    if not nni_installed():
        raise InputError("a config_list needs NNI, which is not installed; pip install 'sr-deploy[compress]', or use --sparsity")
    check_numbers(config_list)
    masks = nni_masks(network, config_list)
    convs, shown = convolutions(network), f"config_list {_short(config_list)}"
    if not masks:
        raise InputError(f"{shown}: selects no module of this network; known convolutions: {', '.join(convs)}")
    for name, mask in masks.items():
        if name not in convs:
            kind = type(network.get_submodule(name)).__name__
            raise InputError(f"{shown}: selects {name}, a {kind}; only convolutions can be pruned, exclude it")
        if not bool(mask.any()):
            raise InputError(f"{shown}: removes all {mask.numel()} filters of {name}; choose a lower sparsity")
    last = list(convs)[-1]
    if last in masks and not bool(masks[last].all()):
        raise InputError(f'{shown}: prunes {last}, which makes the picture; add "exclude_op_names": ["{last}"]')
    return masks


def check_numbers(config_list: ConfigList) -> None:
    """Check what NNI takes without a word: ratios that are none (JSON admits NaN), settings that it would ignore.

    Raises:
        InputError: there is such a thing.
    """
    for entry in config_list:
        legacy = [key for key in ("sparsity", "sparsity_per_layer") if key in entry]
        if legacy and "target_settings" in entry:
            raise InputError(f"config_list: target_settings beside {legacy[0]!r} are ignored by NNI; say sparse_ratio instead")
        for key, value in _numbers(entry):
            if not (0.0 <= value < 1.0 if key in RATIOS else math.isfinite(value)):
                wanted = "a number in [0, 1)" if key in RATIOS else "a finite number"
                raise InputError(f"config_list key {key!r} is {value}; {wanted} is needed")


def nni_masks(network: nn.Module, config_list: ConfigList) -> Masks:
    """Return the masks of NNI 3.0's ``L1NormPruner``; ``config_list`` is passed through unchanged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NNI 3.0 is archived and imports what newer packages deprecate
        from nni.compression.pruning import L1NormPruner

        clone = copy.deepcopy(network)
        try:
            pruner = L1NormPruner(clone, [dict(c) for c in config_list])
            _, masks = pruner.compress()
        except Exception as err:  # its schema, selection and mask code raise whatever they met
            reason = " ".join(f"{type(err).__name__}: {err}".split())[:300]
            raise InputError(f"config_list {_short(config_list)}: NNI rejects it ({reason})") from err
    return {name: _per_filter(found["weight"]) for name, found in masks.items() if "weight" in found}


def nni_installed() -> bool:
    """Return whether NNI can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nni.compression.pruning  # noqa: F401
    except ImportError:
        return False
    return True


def _numbers(entry: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an entry by their keys, at any depth."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield key, value


def _per_filter(mask: Tensor) -> Tensor:
    rows = mask.flatten(1)
    if not bool((rows == rows[:, :1]).all()):
        raise InputError("config_list: prunes parts of filters, which cannot be removed; leave out granularity")
    return rows[:, 0].bool()


def _short(config_list: ConfigList) -> str:
    text = str([dict(c) for c in config_list])
    return text if len(text) < 120 else text[:117] + "..."

"""Which filters stay: L1-norm filter pruning (Li et al., ICLR 2017) from an NNI ``config_list``.

NNI's ``L1NormPruner`` decides where it is installed. Where it is not, ``native_masks`` makes the same masks of the lists that
this project writes itself; a test holds both equal. Another key of NNI's is an error that names it, never ignored.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sr_deploy.errors import InputError
from sr_deploy.train.networks.registry import convolutions

ConfigList = Sequence[Mapping[str, object]]
Backend = Literal["auto", "nni", "native"]
Masks = dict[str, Tensor]
"""Convolution -> bool (out_channels,), true for a filter that stays."""

Scores = Mapping[str, Tensor]
"""Convolution -> float (out_channels,), the more a filter matters the higher."""

RATIO = ("sparsity", "sparse_ratio")
NAMES = ("op_types", "op_names", "exclude_op_names")
KNOWN_KEYS = frozenset((*RATIO, *NAMES, "dependency_group_id", "target_settings"))


def filter_masks(
    network: nn.Module, config_list: ConfigList, *, backend: Backend = "auto", scores: Scores | None = None
) -> Masks:
    """Return which filters of which convolution stay; ``network`` is not changed.

    With ``scores`` those of least score go, natively, in place of those of least L1 norm.

    Raises:
        InputError: the list is malformed, selects something that is no convolution, prunes the output convolution,
            removes a whole layer, or selects nothing.
    """
    check_numbers(config_list)
    if scores is not None or backend == "native" or not _use_nni(backend):
        masks = native_masks(network, config_list, scores)
    else:
        masks = nni_masks(network, config_list)
    convs = convolutions(network)
    if not masks:
        raise InputError(
            f"config_list {_short(config_list)}: selects no module of this network; known convolutions: {', '.join(convs)}"
        )
    for name, mask in masks.items():
        if name not in convs:
            kind = type(network.get_submodule(name)).__name__
            raise InputError(
                f"config_list {_short(config_list)}: selects {name}, a {kind}; only convolutions can be pruned, exclude it"
            )
        if not bool(mask.any()):
            raise InputError(
                f"config_list {_short(config_list)}: removes all {mask.numel()} filters of {name}; choose a lower sparsity"
            )
    last = list(convs)[-1]
    if last in masks and not bool(masks[last].all()):
        raise InputError(
            f'config_list {_short(config_list)}: prunes {last}, which makes the picture; add "exclude_op_names": ["{last}"]'
        )
    return masks


def check_numbers(config_list: ConfigList) -> None:
    """Check what NNI takes without a word: numbers that are not finite (JSON admits NaN), settings that it would ignore.

    Raises:
        InputError: there is such a thing.
    """
    for entry in config_list:
        legacy = [key for key in ("sparsity", "sparsity_per_layer") if key in entry]
        if legacy and "target_settings" in entry:
            raise InputError(f"config_list: target_settings beside {legacy[0]!r} are ignored by NNI; say sparse_ratio instead")
        for key, value in entry.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"config_list key {key!r} is {value}; a number in [0, 1) is needed")


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
            raise InputError(f"config_list {_short(config_list)}: NNI rejects it ({_one_line(err)})") from err
    return {name: _per_filter(found["weight"]) for name, found in masks.items() if "weight" in found}


def native_masks(network: nn.Module, config_list: ConfigList, scores: Scores | None = None) -> Masks:
    """Return the masks that ``L1NormPruner`` gives for a ``config_list`` of the known keys, or those of other ``scores``.

    Raises:
        InputError: a key is not known, an entry selects nothing by type or name, or a ratio is not in [0, 1).
    """
    masks: Masks = {}
    groups: dict[object, dict[str, int]] = {}
    rows: dict[str, Tensor] = {}  # a score for each filter
    ratios: dict[object, float] = {}
    for entry in config_list:
        ratio = next((entry[k] for k in RATIO if k in entry), None)
        if not isinstance(ratio, (int, float)) or not 0.0 <= ratio < 1.0:
            raise InputError(f"config_list entry {dict(entry)}: needs one of {', '.join(RATIO)} in [0, 1), has {ratio}")
        group = entry.get("dependency_group_id")
        for name in _select(network, entry):
            weight = getattr(network.get_submodule(name), "weight", None)
            if not isinstance(weight, Tensor) or name in masks:
                continue
            block = _block(entry, weight)
            rows[name] = l1_norms(weight) if scores is None else scores[name]
            if group is None:
                masks[name] = mask_of(sum_blocks(rows[name], block), float(ratio)).repeat_interleave(block)
            elif ratios.setdefault(group, float(ratio)) != ratio:
                raise InputError(f"config_list group {group!r}: needs one ratio, has {ratios[group]} and {ratio}")
            else:
                groups.setdefault(group, {})[name] = block
    for group, members in groups.items():
        norms = [sum_blocks(rows[name], block) for name, block in members.items()]
        if len({len(found) for found in norms}) != 1:
            raise InputError(f"config_list group {group!r}: {', '.join(members)} have different numbers of filters")
        shared = mask_of(torch.stack(norms).mean(dim=0), ratios[group])
        masks |= {name: shared.repeat_interleave(block) for name, block in members.items()}
    return masks


def l1_norms(weight: Tensor) -> Tensor:
    """Return the L1 norm of every row of ``weight`` (out, ...): float (out,)."""
    return weight.detach().abs().flatten(1).sum(dim=1)


def sum_blocks(scores: Tensor, block: int) -> Tensor:
    """Return the sums over every ``block`` of ``scores`` (n,): (n / block,)."""
    return scores.reshape(-1, block).sum(dim=1)


def mask_of(norms: Tensor, sparsity: float) -> Tensor:
    """Return which stay when the ``int(n * sparsity)`` of least norm go: bool (n,)."""
    _, removed = norms.topk(int(norms.numel() * sparsity), largest=False)
    return torch.ones_like(norms, dtype=torch.bool).scatter(0, removed, False)


def nni_installed() -> bool:
    """Return whether NNI can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nni.compression.pruning  # noqa: F401
    except ImportError:
        return False
    return True


def _one_line(err: Exception) -> str:
    return " ".join(f"{type(err).__name__}: {err}".split())[:300]


def _use_nni(backend: str) -> bool:
    installed = nni_installed()
    if backend == "nni" and not installed:
        raise InputError("NNI is not installed; pip install 'sr-deploy[compress]', or use --pruner native")
    return installed


def _block(entry: Mapping[str, object], weight: Tensor) -> int:
    """Return how many filters an entry's granularity takes together.

    Raises:
        InputError: it is no number of whole filters.
    """
    settings = entry.get("target_settings")
    if settings is None:
        return 1
    try:
        sizes = [int(n) for n in settings["weight"]["granularity"]]  # type: ignore[index]
        if sizes[1:] != list(weight.shape[1:]) or sizes[0] < 1 or len(weight) % sizes[0]:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError) as err:
        wanted = f'{{"weight": {{"granularity": [n, {", ".join(map(str, weight.shape[1:]))}]}}}}'
        raise InputError(f"config_list target_settings {settings}: without NNI only {wanted} is known") from err
    return sizes[0]


def _per_filter(mask: Tensor) -> Tensor:
    rows = mask.flatten(1)
    if not bool((rows == rows[:, :1]).all()):
        raise InputError("config_list: prunes parts of filters, which cannot be removed; leave out granularity")
    return rows[:, 0].bool()


def _select(network: nn.Module, entry: Mapping[str, object]) -> list[str]:
    """Return the modules that an entry selects, by type, by name, or by both."""
    unknown = sorted(set(entry) - KNOWN_KEYS)
    if unknown:
        raise InputError(
            f"config_list key {unknown[0]!r} is not known without NNI (known: {', '.join(sorted(KNOWN_KEYS))}); "
            "pip install 'sr-deploy[compress]'"
        )
    types = {name: type(module).__name__ for name, module in network.named_modules()}
    kinds, names, excluded = (_strings(entry, key) for key in NAMES)
    missing = [name for name in names if name not in types]
    if missing:
        raise InputError(
            f"config_list: op_names {missing[0]!r} is no module of this network; known: {', '.join(filter(None, types))}"
        )
    chosen = names if "op_names" in entry else types
    return [n for n in types if n in chosen and (types[n] in kinds or (names and not kinds)) and n not in excluded]


def _strings(entry: Mapping[str, object], key: str) -> list[str]:
    value = entry.get(key, [])
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"config_list key {key!r} needs a list of names, has {value!r}")
    return [str(v) for v in value]


def _short(config_list: ConfigList) -> str:
    text = str([dict(c) for c in config_list])
    return text if len(text) < 120 else text[:117] + "..."

"""Checkpoints of well-known repositories, as they are: recognised by the names of their tensors.

A ``.pt`` or ``.pth`` file is read with ``weights_only=True``, so loading one runs none of it. A file that holds a pickled module
instead of its state is rejected with the lines of Python that turn it into one.

Every family takes and gives [0, 1] here. What its repository feeds otherwise is folded into the weights where that is exact, and
what a file does not hold (a range, a residual scaling) is said in the card's recipe under ``source.``.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import pickle
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import card_of
from sr_deploy.train.weights.public_edsr import basicsr_edsr, edsr_pytorch
from sr_deploy.train.weights.public_mdsr import edsr_pytorch_mdsr
from sr_deploy.train.weights.public_plain import abpn, compact, ecbsr, etds
from sr_deploy.train.weights.public_srresnet import basicsr_msrresnet, leftthomas_srgan, pytorch_srresnet
from sr_deploy.train.weights.public_state import Found, State
from sr_deploy.train.weights.public_vdsr import pytorch_vdsr

MOST_DEPTH, MOST_PLACES = 8, 1000  # of mappings in mappings; a file may hold itself
# Where repositories and tutorials put a state, the averaged one first, and what training puts before the names of its tensors.
WRAPPERS = ("params_ema", "state_dict", "model_state_dict", "model", "params", "net", "generator", "weights")
PARTS = (
    *("module", "_orig_mod", "generator", "gen", "G", "g", "netG", "net_G", "net_g", "model_G", "model", "net", "network"),
    *("sr_model", "student", "ema", "ema_model", "online_model"),
)
COUNTS = ("total_ops", "total_params")  # thop leaves them in every module

# Numbers, options and paths that files hold beside a state; none of them runs anything.
MAKERS = [cast(Callable[..., object], value.__reduce__()[0]) for value in (np.float64(0.0), np.zeros(0))]  # of numpy's
HARMLESS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *(np.dtype, np.ndarray, np.float64, *{type(np.dtype(code)) for code in np.typecodes["All"]}),
    *((maker, f"numpy.{core}.multiarray.{maker.__name__}") for maker in MAKERS for core in ("core", "_core")),  # numpy 1, 2
    *(argparse.Namespace, defaultdict, dict, list, int, pathlib.PosixPath, pathlib.PurePosixPath),
]
STATE_OF = (
    "import torch; s = lambda v: v.state_dict() if hasattr(v, 'state_dict') else {{k: s(w) for k, w in v.items()}} "
    "if isinstance(v, dict) else [*map(s, v)] if isinstance(v, (list, tuple)) else v if isinstance(v, torch.Tensor) else None; "
    "torch.save(s({loaded}), 'state.pth')"
)
LOADED = "torch.load({path}, weights_only=False, map_location='cpu')"
UNPICKLED = "__import__('pickle').loads(__import__('pathlib').Path({path}).read_bytes())"  # what torch did not write

FAMILIES: dict[str, Callable[[State, Path], Network | Found | None]] = {
    "pytorch-vdsr": pytorch_vdsr,
    "EDSR-PyTorch": edsr_pytorch,
    "BasicSR EDSR": basicsr_edsr,
    "BasicSR MSRResNet": basicsr_msrresnet,
    "leftthomas/SRGAN": leftthomas_srgan,
    "pytorch-SRResNet": pytorch_srresnet,
    "EDSR-PyTorch MDSR": edsr_pytorch_mdsr,
    "ECNUSR ETDS": etds,
    "ECNUSR ECBSR": ecbsr,
    "ECNUSR ABPN": abpn,
    "SRVGGNetCompact": compact,
}


def load_public(content: bytes, path: Path) -> tuple[Network, ModelCard]:
    """Return the network in a foreign checkpoint, in evaluation mode, and a card for it; its digest is the file's.

    The first state of a known network decides, wherever it lies in the file.

    Raises:
        InputError: not a checkpoint, a pickled module, of no known repository, or damaged.
    """
    states = list(states_in(content, path))
    for state in states:
        for family, recognise in FAMILIES.items():
            found = recognise_with(recognise, state, path)
            if found is not None:
                return found.network.eval(), public_card(found, family, digest_bytes(content))
    state = max(states, key=len)
    some = ", ".join(list(state)[:4])
    raise InputError(
        f"{path}: {len(state)} tensors ({some}, ...) of no known network; known: those of this project, {', '.join(FAMILIES)}"
    )


def public_card(found: Found, family: str, digest: str) -> ModelCard:
    """Return the card of a foreign checkpoint; a network that enlarges inside serves the scale it is built for."""
    scale = found.network.facts.get("scale")
    scales = (2, 3, 4) if scale is None else (int(scale),)
    facts = {f"source.{name}": text for name, text in found.facts.items()}
    recipe = {"source": f"weights of {family}", "source.digest": digest, **facts}
    return card_of(found.network, scales=scales, default_scale=scales[0]).with_changes(recipe=recipe, digest=digest)


def recognise_with(recognise: Callable[[State, Path], Network | Found | None], state: State, path: Path) -> Found | None:
    """Return what a recogniser makes of a state, or ``None``.

    Raises:
        InputError: it is of the recogniser's family, but damaged, or its tensors are not dense floating point ones.
    """
    # Its names tell the family; only then what its tensors are is of interest.
    # A few numbers in a file may be a sparse tensor of any size, so what stands in for one takes no memory.
    dense = {name: value if is_plain(name, value) else torch.zeros(()).expand(value.shape) for name, value in state.items()}
    try:
        found = recognise(dense, path)
    except (InputError, RuntimeError):
        check_plain(state, path)
        raise
    if found is not None:
        check_plain(state, path)
    return found if found is None or isinstance(found, Found) else Found(found)


def states_in(content: bytes, path: Path) -> Iterator[State]:
    """Yield the tensors by name of each mapping in a file, and again without what training puts before their names.

    Raises:
        InputError: no mapping holds a tensor.
    """
    try:
        whole = safetensors.torch.load(content) if path.suffix.lower() == ".safetensors" else unpickle(content, path)
    except safetensors.SafetensorError as err:
        raise InputError(f"{path}: not a safetensors checkpoint ({err}); make one with sr-train") from err
    states = [state for mapping in mappings_in(whole) if (state := tensors_of(mapping))]
    if not states:
        raise InputError(f"{path}: holds no tensors by name; save network.state_dict()")
    # A tensor or two beside a state, the best PSNR, say, are no state of a known network, so it is found after them.
    yield from states
    for state in states:
        yield from without_prefixes(state)


def tensors_of(mapping: Mapping[object, object]) -> dict[str, Tensor]:
    """Return the tensors of a mapping by name, arrays of floating point numbers among them; without what profilers count."""
    found: dict[str, Tensor] = {}
    for name, value in mapping.items():
        if str(name).rpartition(".")[2] in COUNTS:
            continue
        if isinstance(value, Tensor):
            found[str(name)] = value
        elif isinstance(value, np.ndarray) and value.dtype in (np.float16, np.float32, np.float64):
            found[str(name)] = torch.from_numpy(value)
    return found


def mappings_in(whole: object) -> Iterator[Mapping[object, object]]:
    """Yield a mapping and those in it, in its lists too, the shallow ones first, and of those the usual places of a state."""
    level = [whole]
    for _ in range(MOST_DEPTH):
        mappings = [found for found in level if isinstance(found, Mapping)][:MOST_PLACES]
        lists = [found for found in level if isinstance(found, (list, tuple))][:MOST_PLACES]
        yield from mappings
        usual = [mapping[name] for name in WRAPPERS for mapping in mappings if name in mapping]
        others = [value for mapping in mappings for name, value in mapping.items() if name not in WRAPPERS]
        level = [*usual, *(value for found in lists for value in found), *others]


def without_prefixes(state: State, depth: int = MOST_DEPTH) -> Iterator[State]:
    """Yield a state's networks by the names of their parts: what is before all names, or in ``PARTS``, is taken off."""
    firsts = Counter(name.partition(".")[0] for name in state)
    for first in firsts if len(firsts) == 1 else [part for part in PARTS if part in firsts]:
        inner = {name.partition(".")[2]: value for name, value in state.items() if name.startswith(f"{first}.")}
        if depth and inner:
            yield inner
            yield from without_prefixes(inner, depth - 1)


def is_plain(name: str, value: Tensor) -> bool:
    """Return whether a tensor holds real numbers, one beside the other; whole numbers may only count."""
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_nested and value.device.type == "cpu"
    return dense and (value.is_floating_point() or (name.endswith("num_batches_tracked") and not value.is_complex()))


def check_plain(state: State, path: Path) -> None:
    """Check that tensors hold real numbers, one beside the other.

    Raises:
        InputError: one is sparse, quantized, complex or of another kind.
    """
    for name, value in state.items():
        if not is_plain(name, value):
            kind = f"{value.layout}, {value.dtype}, on {value.device}".replace("torch.", "")
            raise InputError(f"{path}: {name} is {kind}; dense floating point tensors are needed, save a state of such weights")


def unpickle(content: bytes, path: Path) -> object:
    """Return what ``torch.load`` finds in a file without running any of it.

    Raises:
        InputError: it holds a module, or is no such file.
    """
    alike = content.startswith((b"PK", b"\x80"))  # a zip archive, a pickle
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words about old files are no line of ours
            with torch.serialization.safe_globals(HARMLESS):
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        if not alike or ("weights_only" not in str(err).lower() and "unsupported global" not in str(err).lower()):
            raise InputError(
                f"{path}: not a PyTorch checkpoint ({_first(err, alike)}); name a .pt, .pth or .safetensors file"
            ) from err
        by_torch = content.startswith(b"PK") or MAGIC_NUMBER.to_bytes(10, "little") in content[:32]
        loaded = (LOADED if by_torch else UNPICKLED).format(path=repr(str(path)))
        raise InputError(
            f"{path}: holds a pickled module or other objects, and loading one runs code; "
            f"where you trust its maker and have its classes, turn it into a state: {STATE_OF.format(loaded=loaded)}"
        ) from err
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, OSError) as err:
        raise InputError(
            f"{path}: not a PyTorch checkpoint ({_first(err, alike)}); name a .pt, .pth or .safetensors file"
        ) from err


def _first(err: Exception, alike: bool) -> str:
    if not alike:
        return "neither a zip archive nor a pickle"  # torch's words would tell how to run what is in it
    return " ".join(str(err).split())[:160] or type(err).__name__

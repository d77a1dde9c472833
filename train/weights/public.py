"""Checkpoints of well-known repositories, as they are: recognised by the names of their tensors.

A ``.pt`` or ``.pth`` file is read with ``weights_only=True``, so loading one runs none of it. A file that holds a pickled module
instead of its state is refused with the lines of Python that turn it into one.

Every family takes and gives [0, 1] here. What its repository feeds otherwise is folded into the weights where that is exact, and
what a file does not hold (a range, a residual scaling) is said in the card's recipe under ``source.``.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes
from sr_deploy.train.networks.registry import card_of, config_of
from sr_deploy.train.weights.public_edsr import basicsr_edsr, edsr_pytorch
from sr_deploy.train.weights.public_mdsr import edsr_pytorch_mdsr
from sr_deploy.train.weights.public_plain import abpn, compact, ecbsr, etds
from sr_deploy.train.weights.public_srresnet import basicsr_msrresnet, leftthomas_srgan, pytorch_srresnet
from sr_deploy.train.weights.public_state import Found, State
from sr_deploy.train.weights.public_vdsr import pytorch_vdsr

MOST_WRAPPERS = 8
# What repositories and tutorials put a state into, and what training puts before its names.
WRAPPERS = ("state_dict", "model_state_dict", "model", "params_ema", "params", "net", "generator", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "generator.")

FAMILIES: dict[str, Callable[[State, Path], nn.Module | Found | None]] = {
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


def load_public(content: bytes, path: Path) -> tuple[nn.Module, ModelCard]:
    """Return the network in a foreign checkpoint, in evaluation mode, and a card for it; its digest is the file's.

    Raises:
        InputError: not a checkpoint, a pickled module, of no known repository, or damaged.
    """
    state = plain_state(content, path)
    for family, recognise in FAMILIES.items():
        found = recognise(state, path)
        if found is not None:
            found = found if isinstance(found, Found) else Found(found)
            return found.network.eval(), public_card(found, family, digest_bytes(content))
    some = ", ".join(list(state)[:4])
    raise InputError(
        f"{path}: {len(state)} tensors ({some}, ...) of no known network; known: those of this project, {', '.join(FAMILIES)}"
    )


def public_card(found: Found, family: str, digest: str) -> ModelCard:
    """Return the card of a foreign checkpoint; a network that enlarges inside serves the scale it is built for."""
    scale = config_of(found.network).get("scale")
    scales = (2, 3, 4) if scale is None else (int(scale),)
    facts = {f"source.{name}": text for name, text in found.facts.items()}
    recipe = {"source": f"weights of {family}", "source.digest": digest, **facts}
    return card_of(found.network, scales=scales, default_scale=scales[0]).with_changes(recipe=recipe, digest=digest)


def plain_state(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without wrappers and prefixes: of data-parallel or compiled training, of Lightning.

    Raises:
        InputError: it holds no state.
    """
    try:
        found = safetensors.torch.load(content) if path.suffix == ".safetensors" else unpickled(content, path)
    except safetensors.SafetensorError as err:
        raise InputError(f"{path}: not a safetensors checkpoint ({err}); make one with sr-train") from err
    for _ in range(MOST_WRAPPERS):  # a file may hold itself
        wrapped = [found[name] for name in WRAPPERS if isinstance(found.get(name), Mapping)] if isinstance(found, Mapping) else []
        if not wrapped:
            break
        found = wrapped[0]
    state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not state:
        raise InputError(f"{path}: holds no tensors by name; save network.state_dict()")
    while (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)) is not None:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    for name, value in state.items():
        check_plain(name, value, path)
    return state


def check_plain(name: str, value: Tensor, path: Path) -> None:
    """Check that a tensor holds real numbers, one beside the other.

    Raises:
        InputError: it is sparse, quantized, complex or of another kind; whole numbers may only count.
    """
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_nested and value.device.type == "cpu"
    counts = name.endswith("num_batches_tracked") and not value.is_complex()
    if not dense or not (value.is_floating_point() or counts):
        kind = f"{value.layout}, {value.dtype}, on {value.device}".replace("torch.", "")
        raise InputError(f"{path}: {name} is {kind}; dense floating point tensors are needed, save a state of such weights")


def unpickled(content: bytes, path: Path) -> object:
    """Return what ``torch.load`` finds in a file without running any of it.

    Raises:
        InputError: it holds a module, or is no such file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words about old files are no line of ours
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        alike = content.startswith((b"PK", b"\x80"))  # a zip archive, a pickle
        if not alike or ("weights_only" not in str(err).lower() and "unsupported global" not in str(err).lower()):
            raise InputError(f"{path}: not a PyTorch checkpoint ({_first(err)}); name a .pt, .pth or .safetensors file") from err
        raise InputError(
            f"{path}: holds a pickled module or other objects, and loading one runs code; "
            "where you trust its maker and have its classes, turn it into a state: "
            "m = torch.load(PATH, weights_only=False, map_location='cpu'); "
            "torch.save(getattr(m.get('model', m) if isinstance(m, dict) else m, 'state_dict')(), 'state.pth')"
        ) from err
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, OSError) as err:
        raise InputError(f"{path}: not a PyTorch checkpoint ({_first(err)}); name a .pt, .pth or .safetensors file") from err


def _first(err: Exception) -> str:
    return " ".join(str(err).split())[:160] or type(err).__name__

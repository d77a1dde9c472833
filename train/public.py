"""Checkpoints of well-known repositories, as they are: recognised by the names of their tensors.

A ``.pt`` or ``.pth`` file is read with ``weights_only=True``, so loading one runs none of it. A file that holds a pickled module
instead of its state is refused with the lines of Python that turn it into one.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes
from sr_deploy.train.networks import build, card_of
from sr_deploy.train.public_mdsr import edsr_pytorch_mdsr

State = Mapping[str, Tensor]
WRAPPERS = ("state_dict", "model", "params_ema", "params", "net", "generator", "weights")  # what repositories put a state into
LAYER = re.compile(r"residual_layer\.(\d+)\.conv\.weight")


def load_public(content: bytes, path: Path) -> tuple[nn.Module, ModelCard]:
    """Return the network in a foreign checkpoint, in evaluation mode, and a card for it; its digest is the file's.

    Raises:
        InputError: not a checkpoint, a pickled module, or of no known repository.
    """
    state = plain_state(content, path)
    for family, recognise in FAMILIES.items():
        network = recognise(state, path)
        if network is not None:
            card = card_of(network, scales=(2, 3, 4), default_scale=2)
            card = card.with_changes(recipe={"source": f"weights of {family}", "source.digest": digest_bytes(content)})
            return network.eval(), card.with_changes(digest=digest_bytes(content))
    some = ", ".join(list(state)[:4])
    raise InputError(
        f"{path}: {len(state)} tensors ({some}, ...) of no known network; known: those of this project, {', '.join(FAMILIES)}"
    )


def plain_state(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without wrappers and the ``module.`` of data-parallel training.

    Raises:
        InputError: it holds no state.
    """
    try:
        found = safetensors.torch.load(content) if path.suffix == ".safetensors" else unpickled(content, path)
    except safetensors.SafetensorError as err:
        raise InputError(f"{path}: not a safetensors checkpoint ({err}); make one with sr-train") from err
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((found[name] for name in WRAPPERS if isinstance(found.get(name), Mapping)), None)
        if inner is None:
            break
        found = inner
    state = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not state:
        raise InputError(f"{path}: holds no tensors by name; save network.state_dict()")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def unpickled(content: bytes, path: Path) -> object:
    """Return what ``torch.load`` finds in a file without running any of it.

    Raises:
        InputError: it holds a module, or is no such file.
    """
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        if "weights_only" not in str(err).lower() and "unsupported global" not in str(err).lower():
            raise InputError(f"{path}: not a PyTorch checkpoint ({_first(err)}); name a .pt, .pth or .safetensors file") from err
        raise InputError(
            f"{path}: holds a pickled module, and loading one runs code; "
            "where you trust it and have its classes, turn it into a state: "
            "m = torch.load(PATH, weights_only=False, map_location='cpu'); "
            "torch.save(getattr(m.get('model', m) if isinstance(m, dict) else m, 'state_dict')(), 'state.pth')"
        ) from err
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, OSError) as err:
        raise InputError(f"{path}: not a PyTorch checkpoint ({_first(err)}); name a .pt, .pth or .safetensors file") from err


def pytorch_vdsr(state: State, path: Path) -> nn.Module | None:
    """Return the VDSR of a ``pytorch-vdsr`` state: ``input``, ``residual_layer.N.conv``, ``output``, luma in [0, 1]."""
    if "input.weight" not in state or "output.weight" not in state:
        return None
    numbers = sorted(int(found[1]) for found in map(LAYER.fullmatch, state) if found)
    names = ["input.weight", *(f"residual_layer.{n}.conv.weight" for n in numbers), "output.weight"]
    if not numbers or set(names) != set(state):
        return None
    weights = [state[name].float() for name in names]
    network = build("vdsr", tuple(len(weight) for weight in weights))
    try:
        network.load_state_dict({f"conv{n}.weight": weight for n, weight in enumerate(weights, start=1)})
    except RuntimeError as err:
        raise InputError(f"{path}: looks like pytorch-vdsr, but its shapes do not fit ({_first(err)}); it is damaged") from err
    return network


FAMILIES = {"pytorch-vdsr": pytorch_vdsr, "EDSR-PyTorch MDSR": edsr_pytorch_mdsr}


def _first(err: Exception) -> str:
    return " ".join(str(err).split())[:160] or type(err).__name__

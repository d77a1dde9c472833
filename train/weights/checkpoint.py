"""Checkpoints: one safetensors file with the weights and the model card; loading one runs none of it."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sr_deploy.card import KEY, ModelCard, card_from_json, check_seal, seal
from sr_deploy.errors import InputError
from sr_deploy.files import is_checkpoint, read_bytes, write_bytes
from sr_deploy.train.networks.network import Network
from sr_deploy.train.networks.registry import build
from sr_deploy.train.weights.pretrained import whereabouts


def save(path: Path, network: Network, card: ModelCard) -> ModelCard:
    """Write the weights of ``network`` as float32 with ``card``, whole or not at all; return the sealed card."""
    state = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in network.state_dict().items()}
    content = seal(safetensors.torch.save(state, {KEY: card.with_changes().to_json()}), source=str(path))
    write_bytes(path, content)
    return _card_in(content, path)


def load(path: Path) -> tuple[Network, ModelCard]:
    """Return the network with its weights, in evaluation mode, and its card.

    Raises:
        InputError: missing, no checkpoint of this project or a known one, changed since it was made, or its weights do not fit.
    """
    content = read_bytes(path, advice=f"name a .safetensors checkpoint{whereabouts(path)}")
    if is_foreign(content, path):
        from sr_deploy.train.weights.public import load_public

        network, card = load_public(content, path)
        check_finite(network, path)
        return network, card
    card = _card_in(content, path)
    check_seal(content, card.digest, source=str(path))
    network = build(card.arch, card.widths, card.config)
    try:
        network.load_state_dict(safetensors.torch.load(content))
    except RuntimeError as err:
        raise InputError(f"{path}: its weights do not fit its card ({card.arch}, widths {card.widths}); train again") from err
    check_finite(network, path)
    return network.eval(), card


def check_finite(network: Network, path: Path) -> None:
    """Check that the weights of a network, read from ``path``, are numbers.

    Raises:
        InputError: one is not.
    """
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} holds a weight that is no finite number; the training diverged, train again")


def is_foreign(content: bytes, path: Path) -> bool:
    """Return whether a file is a checkpoint that this project did not write: PyTorch's own, or safetensors without a card."""
    if path.suffix.lower() != ".safetensors":
        return is_checkpoint(path) or content.startswith((b"PK", b"\x80"))  # a zip archive, a pickle: whatever it is called
    size = int.from_bytes(content[:8], "little")
    return 2 <= size <= len(content) - 8 and KEY.encode() not in content[8 : 8 + size]


def read_card(path: Path) -> ModelCard:
    """Return the card of a checkpoint of this project without building its network."""
    return _card_in(read_bytes(path, advice=f"name a .safetensors checkpoint{whereabouts(path)}"), path)


def tensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by name.

    Raises:
        InputError: missing, not a checkpoint of this project, or changed since it was made.
    """
    content = read_bytes(path, advice="name a .safetensors checkpoint")
    check_seal(content, _card_in(content, path).digest, source=str(path))
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as err:
        raise InputError(f"{path}: not a safetensors checkpoint ({err}); make one with sr-train") from err


def _card_in(content: bytes, path: Path) -> ModelCard:
    try:
        size = int.from_bytes(content[:8], "little")
        if not 2 <= size <= len(content) - 8:
            raise ValueError("no safetensors header")
        header = json.loads(content[8 : 8 + size])
        text = header.get("__metadata__", {}).get(KEY)
    except (ValueError, AttributeError) as err:
        raise InputError(f"{path}: not a safetensors checkpoint ({err}); make one with sr-train") from err
    if text is None:
        raise InputError(f"{path}: holds no model card; make a checkpoint with sr-train or sr-prune")
    return card_from_json(text, source=str(path))

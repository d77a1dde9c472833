"""The training state beside a checkpoint: all that a run needs to continue as if it had never stopped.

One safetensors file: the weights, the optimizer's tensors and torch's random state, with the step and what must be equal
to resume in its header. Loading it runs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from sr_deploy.card import BLANK, check_seal, seal
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes, write_bytes


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int
    elapsed_s: float
    loss: float  # running mean


def save_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, identity: Mapping[str, object]
) -> None:
    """Write the state, whole or not at all; ``identity`` is what must be equal to resume."""
    state = {f"net.{k}": v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        state |= {f"opt.{index}.{k}": torch.as_tensor(v).cpu().contiguous() for k, v in values.items() if v is not None}
    state["rng"] = torch.get_rng_state()
    facts = {"step": progress.step, "elapsed": progress.elapsed_s, "loss": progress.loss, "identity": dict(identity)}
    content = safetensors.torch.save(state, {"run": json.dumps({**facts, "digest": BLANK}, sort_keys=True)})
    write_bytes(path, seal(content, source=str(path)))


def load_state_(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, object]) -> Progress:
    """Put the stored state into ``network``, ``optimizer`` and torch's generator; return where the run stood.

    Raises:
        InputError: there is no such state, it was changed, or it is of a run with another recipe, data or network.
    """
    content = read_bytes(path, advice="there is no run to resume; start without --resume")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"]["run"])
        progress, stored = Progress(facts["step"], facts["elapsed"], facts["loss"]), dict(facts["identity"])
        digest = str(facts["digest"])
        state = safetensors.torch.load(content)
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as err:
        raise InputError(f"{path}: not a training state ({err}); start without --resume") from err
    check_seal(content, digest, source=str(path))
    for name, value in identity.items():
        if stored.get(name) != value:
            raise InputError(f"{path}: was trained with {name} {stored.get(name)}, not {value}; give the same options to resume")
    network.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    values = optimizer.state_dict()
    values["state"] = {}
    for key, tensor in state.items():
        if key.startswith("opt."):
            _, index, name = key.split(".", 2)
            values["state"].setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(values)
    torch.set_rng_state(state["rng"])
    return progress

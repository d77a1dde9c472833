"""The training state beside a checkpoint: all that a run needs to continue as if it had never stopped.

One safetensors file: the weights, the optimizers' tensors and torch's random state, with the step and what must be equal
to resume in its header. Loading it runs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sr_deploy.card import BLANK, check_seal, seal
from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes, write_bytes


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int
    elapsed_s: float
    losses: dict[str, float]  # running means
    numbers: dict[str, float]  # of the stepper


@dataclass(frozen=True)
class Trained:
    """All that holds tensors which training changes, by name; no name begins another one of either kind."""

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


def save_state(path: Path, trained: Trained, progress: Progress, identity: Mapping[str, object]) -> None:
    """Write the state, whole or not at all; ``identity`` is what must be equal to resume."""
    state = {"rng": torch.get_rng_state()}
    for name, module in trained.modules.items():
        state |= {f"{name}.{k}": v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    for name, optimizer in trained.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            tensors = {k: torch.as_tensor(v).cpu().contiguous() for k, v in values.items() if v is not None}
            state |= {f"{name}.{index}.{k}": v for k, v in tensors.items()}
    # Pairs, because sorted keys would lose the order of the losses.
    facts = {**asdict(progress), "losses": list(progress.losses.items()), "identity": dict(identity)}
    content = safetensors.torch.save(state, {"run": json.dumps({**facts, "digest": BLANK}, sort_keys=True)})
    write_bytes(path, seal(content, source=str(path)))


def load_state_(path: Path, trained: Trained, identity: Mapping[str, object]) -> Progress:
    """Put the stored state into ``trained`` and torch's generator; return where the run stood.

    Raises:
        InputError: there is no such state, it was changed, or it is of a run with another recipe, data or network.
    """
    content = read_bytes(path, advice="there is no run to resume; start without --resume")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"]["run"])
        stored, digest = dict(facts.pop("identity")), str(facts.pop("digest"))
        progress = Progress(**{**facts, "losses": {str(name): float(value) for name, value in facts["losses"]}})
        state = safetensors.torch.load(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, safetensors.SafetensorError) as err:
        raise InputError(f"{path}: not a training state ({err}); start without --resume") from err
    check_seal(content, digest, source=str(path))
    for name in dict.fromkeys((*identity, *stored)):  # what is left out now was given then
        then, now = stored.get(name), identity.get(name)
        if then != now:
            raise InputError(f"{path}: was trained with {name} {then}, not {now}; give the same options to resume")
    for name, module in trained.modules.items():
        module.load_state_dict(_under(name, state))
    for name, optimizer in trained.optimizers.items():
        restore_(optimizer, _under(name, state))
    torch.set_rng_state(state["rng"])
    return progress


def restore_(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put stored tensors, by ``INDEX.NAME``, into ``optimizer``."""
    values = optimizer.state_dict()
    values["state"] = {}
    for key, tensor in state.items():
        index, name = key.split(".", 1)
        values["state"].setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(values)


def _under(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}

"""A plan's identity, and whether it may be loaded: decided before TensorRT sees a byte of it.

A plan runs on the TensorRT version and the kind of GPU that built it. What TensorRT says when they differ is hard to read,
and a plan is code: so everything is compared first, from ``NAME.plan.json`` beside it, and an error names both values and the
command that builds the plan again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from sr_deploy.card import ModelCard, card_from_json
from sr_deploy.errors import InputError
from sr_deploy.files import digest_bytes, read_bytes

FIRST_COMPATIBLE = 8.0  # compute capability of Ampere, from which hardware-compatible plans run


@dataclass(frozen=True)
class PlanIdentity:
    """What a plan was built from, with and for; equal identities need no second build."""

    graph_digest: str
    tensorrt: str  # version, as "10.16.1"
    cuda: str
    gpu: str
    capability: str  # compute capability, as "9.0"
    batches: tuple[int, ...]
    version_compatible: bool = False
    hardware_compatible: bool = False
    options: dict[str, str] = field(default_factory=dict)  # whatever else changes the plan

    def same_build(self, other: PlanIdentity) -> bool:
        """Return whether ``other`` would come out of the same build."""
        return asdict(self) == asdict(other)


@dataclass(frozen=True)
class PlanCard:
    """The content of ``NAME.plan.json``."""

    card: ModelCard  # of the graph, with the plan's own batch in the shapes
    identity: PlanIdentity
    plan_digest: str
    build_seconds: float
    graph: str  # the graph's file name, for the command that builds again


def card_path(plan: Path) -> Path:
    """Return where a plan's card lies."""
    return plan.with_name(f"{plan.name}.json")


def plan_card_to_json(card: PlanCard) -> str:
    """Return the text of ``NAME.plan.json``."""
    values = {**asdict(card), "card": json.loads(card.card.to_json())}
    return json.dumps(values, indent=2) + "\n"


def read_plan_card(plan: Path) -> PlanCard:
    """Return the card beside ``plan``.

    Raises:
        InputError: missing or damaged.
    """
    path = card_path(plan)
    if not path.is_file():
        raise InputError(
            f"{plan}: has no card {path.name} beside it, and a plan is code; build it again with sr-build, or, if you know where "
            "it is from, put its graph beside it under the same name and add --trust-plan"
        )
    try:
        values = json.loads(read_bytes(path, advice="build the plan again with sr-build"))
        known = {f.name for f in fields(PlanIdentity)}
        identity = {name: value for name, value in values["identity"].items() if name in known}
        identity["batches"] = tuple(int(n) for n in identity["batches"])
        return PlanCard(
            card=card_from_json(json.dumps(values["card"]), source=str(path)),
            identity=PlanIdentity(**identity),
            plan_digest=str(values["plan_digest"]),
            build_seconds=float(values["build_seconds"]),
            graph=str(values["graph"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise InputError(f"{path}: not a plan's card ({err!r}); build the plan again with sr-build") from err


def command_for(plan: Path, card: PlanCard) -> str:
    """Return the command that builds ``plan`` again, from the current folder."""
    identity = card.identity
    batches = "" if identity.batches == (1,) else f" --batch {' '.join(map(str, identity.batches))}"
    flags = [
        (identity.version_compatible, " --version-compatible"),
        (identity.hardware_compatible, " --hardware-compat"),
        ("calibrator" in identity.options, " --calibrator native"),
        ("opt_level" in identity.options, f" --opt-level {identity.options.get('opt_level')}"),
    ]
    chosen = "".join(text for wanted, text in flags if wanted)
    return f"sr-build {os.path.relpath(plan.parent / card.graph)} -o {plan.parent}{batches}{chosen} --force"


def later(here: str, built: str) -> bool:
    """Return whether a version-compatible plan of release ``built`` runs on ``here``: the same major version, not older."""
    ours, theirs = ([int(part) for part in re.findall(r"\d+", version)[:2]] for version in (here, built))
    return ours[0] == theirs[0] and ours >= theirs


def check_plan(plan: Path, card: PlanCard, content: bytes, here: Mapping[str, str], *, trusted: bool = False) -> list[str]:
    """Check that a plan may be loaded here and return warnings.

    Args:
        plan: the plan's path, for messages.
        card: what its card says.
        content: the plan's bytes.
        here: ``tensorrt``, ``capability`` and ``gpu`` of this machine.
        trusted: whether the user vouches for a plan that may carry host code (``--trust-plan``).

    Raises:
        InputError: it was changed, or made for another TensorRT or another kind of GPU.
    """
    identity, again = card.identity, f"build it again here: {command_for(plan, card)}"
    found = digest_bytes(content)
    if found != card.plan_digest:
        raise InputError(
            f"{plan}: changed after it was built (digest {found[7:19]}, its card says {card.plan_digest[7:19]}); {again}"
        )
    if identity.tensorrt != here["tensorrt"] and not (identity.version_compatible and later(here["tensorrt"], identity.tensorrt)):
        raise InputError(f"{plan}: was built by TensorRT {identity.tensorrt}, this machine has {here['tensorrt']}; {again}")
    ampere = float(here["capability"]) >= FIRST_COMPATIBLE
    if identity.capability != here["capability"] and not (identity.hardware_compatible and ampere):
        raise InputError(
            f"{plan}: was built for {identity.gpu} (compute capability {identity.capability}), "
            f"this machine has {here['gpu']} ({here['capability']}); {again}"
        )
    if identity.version_compatible and not trusted:
        raise InputError(
            f"{plan}: is version-compatible and carries host code that runs when it is loaded; "
            "if you built it yourself, add --trust-plan"
        )
    if identity.gpu != here["gpu"]:
        return [f"{plan}: was built on {identity.gpu}, this machine has {here['gpu']}; one built here may be faster"]
    return []

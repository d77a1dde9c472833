"""Which numbers a recipe may hold; of options and of recipes alike. Nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sr_deploy.errors import InputError

SANE = {
    "batch_size": (1, 65536),
    "accumulate": (1, 4096),
    "lr": (1e-12, 1e3),
    "clip": (1e-12, 1e9),
    "weight_decay": (0.0, 1e3),
}  # float32 holds them


def check_recipe(values: Mapping[str, object]) -> None:
    """Check the numbers of a recipe, given by their names; those that are missing or ``None`` are not looked at.

    Raises:
        InputError: one is out of its range.
    """
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    for name in ("steps", "epochs", "minutes", "batch_size", "lr", "lr_step", "lr_half", "clip", "accumulate"):
        if not 0 < numbers.get(name, 1) < math.inf:
            raise InputError(f"--{name.replace('_', '-')} {numbers[name]} is not above 0")
    for name, (least, most) in SANE.items():
        if not least <= numbers.get(name, 1) <= most:
            raise InputError(f"--{name.replace('_', '-')} {numbers[name]} is not in {least:g} to {most:g}")
    if not 0.0 <= numbers.get("momentum", 0.0) < 1.0:
        raise InputError(f"--momentum {numbers['momentum']} is not in [0, 1); 0.9 is usual")
    if not 0.0 < numbers.get("ema", 0.5) < 1.0:
        raise InputError(f"--ema {numbers['ema']} is not between 0 and 1; 0.999 is usual")
    if numbers.get("warmup", 0) < 0:
        raise InputError(f"--warmup {numbers['warmup']} is below 0; 0 leaves it out")
    if not 0 <= numbers.get("seed", 0) < 2**63:
        raise InputError(f"--seed {numbers['seed']} is not in 0 to 2**63 - 1")

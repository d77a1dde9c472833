"""Budgets: how much quality an engine may lose, read from a TOML file.

A table named after a precision holds for every model; one under ``models.NAME`` holds for engines whose file is called
``NAME_PRECISION.onnx`` and overrides single entries. A table behind either, named after a scale, holds for that one::

    [int8]
    max_drop_db = 0.15
    [models.vdsr.int8]
    max_drop_db = 0.05
    [models.vdsr.int8.x4]
    min_psnr_db = 31.2
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sr_deploy.errors import InputError
from sr_deploy.files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1e30
PRECISIONS = ("fp32", "fp16", "int8")
SCALE = re.compile("x[1-9]")
BUDGETS = Path(__file__).with_name("gates.toml")  # those of the project


@dataclass(frozen=True)
class Budget:
    """Limits for one engine; ``None`` is not checked."""

    max_drop_db: float | None = None  # mean PSNR below the reference's
    max_drop_worst_picture_db: float | None = None  # the same of the picture that lost most
    min_agreement_db: float | None = None  # PSNR of the output against the reference's output, worst picture
    max_shift_levels: float | None = None  # mean signed difference of both outputs in grey levels, worst picture
    max_weight_error_steps: float | None = None  # largest weight error in steps of the engine's precision
    max_threshold_ratio: float | None = None  # an int8 threshold over the one its calibration recorded, or the reverse
    min_psnr_db: float | None = None  # mean PSNR of the engine itself
    min_gain_over_bicubic_db: float | None = None  # by how much that is above bicubic's

    def limits(self) -> dict[str, float]:
        """Return the limits that are checked."""
        return {name: value for name, value in asdict(self).items() if value is not None}


KEYS = tuple(f.name for f in fields(Budget))


def read_budgets(path: Path) -> dict[str, object]:
    """Return the tables of a budget file after checking every name and number in it.

    Raises:
        InputError: missing, not TOML, an unknown table or key, or a value that is no number of at least 0.
    """
    try:
        tables: dict[str, object] = tomllib.loads(read_bytes(path, advice="write one as in docs/gate.md").decode("utf-8-sig"))
    except (ValueError, RecursionError) as err:
        raise InputError(f"{path}: not a TOML file ({err}); see docs/gate.md") from err
    models = tables.get("models", {})
    named = models.items() if isinstance(models, dict) else [("models", models)]
    groups = [("", {k: v for k, v in tables.items() if k != "models"}), *((f"models.{name}.", group) for name, group in named)]
    for prefix, group in groups:
        if not isinstance(group, dict):
            name = prefix.removesuffix(".").removeprefix("models.")
            raise InputError(f"{path}: {name} is {group!r}, a table per precision is needed; see docs/gate.md")
        for precision, limits in group.items():
            if precision not in PRECISIONS:
                known = ", ".join(PRECISIONS)
                raise InputError(f"{path}: [{prefix}{precision}]: {precision!r} is no precision; known: {known}")
            _check_limits(limits, f"{prefix}{precision}", path)
    return tables


def budget_for(tables: dict[str, object], stem: str, precision: str, scale: int) -> Budget:
    """Return the limits at a scale for the engine file ``stem`` (with or without the precision at its end)."""
    name = stem.removesuffix(f"_{precision}")
    general, models = tables.get(precision, {}), tables.get("models", {})
    assert isinstance(general, dict) and isinstance(models, dict)
    limits: dict[str, float] = {}
    for table in (general, models.get(name, {}).get(precision, {})):
        limits |= {key: value for key, value in table.items() if key in KEYS}
        limits |= table.get(f"x{scale}", {})
    return Budget(**limits)


def unused_names(tables: dict[str, object], engines: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each model's table that fits no engine (stem, precision), but nearly does: a slip of the pen."""
    models = tables.get("models", {})
    assert isinstance(models, dict)
    present = {stem.removesuffix(f"_{precision}") for stem, precision in engines}
    lines = []
    for name in models:
        near = difflib.get_close_matches(name, present - models.keys(), n=1, cutoff=0.8)
        if name not in present and near:
            lines.append(f"[models.{name}] fits no engine here; did you mean {near[0]}?")
    return lines


def _check_limits(limits: object, name: str, path: Path) -> None:
    where, (*_, last) = f"{path}: [{name}]", name.split(".")
    if not isinstance(limits, dict):
        raise InputError(f"{where}: is {limits!r}, a table is needed; known keys: {', '.join(KEYS)}")
    for key, value in limits.items():
        if last in PRECISIONS and SCALE.fullmatch(key):
            _check_limits(value, f"{name}.{key}", path)
        elif key not in KEYS:
            raise InputError(f"{where}: {key!r} is no budget; known: {', '.join(KEYS)}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST:
            raise InputError(f"{where}: {key} is {value!r}, a number is needed, 0 or more")

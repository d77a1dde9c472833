"""JSON that every parser reads (RFC 8259): Python's own writes ``NaN`` and ``Infinity``, which are none."""

from __future__ import annotations

import json
import math


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Return dicts, lists, tuples, texts and numbers as JSON with a newline behind; what is no finite number is ``null``."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value

"""The Python API of a package, imported when it is asked for (PEP 562), so that the package itself costs nothing to import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable


def lazy(package: str, **modules: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of ``package``: each name comes from the module of it that it is given with."""

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names

"""Compression: a checkpoint to a smaller checkpoint (``sr-prune``): pruning, fine-tuning, quantization-aware training.

``from sr_deploy.compress import prune, PruneOptions`` is the Python API; its names are imported when they are asked for, so that
commands stay quick. Begin with ``run.py``: what a pruning does, step by step. ``options.py`` is all it can be asked for,
``tuning.py`` how the smaller network is trained, ``report.py`` what comes out; ``command.py`` reads arguments. The rooms:
``pruning`` (which filters go), ``teaching`` (the dense network as teacher), ``qat``.

Imports ``train``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_deploy.compress.options import PruneOptions
    from sr_deploy.compress.report import Pruned, Row
    from sr_deploy.compress.run import prune

__all__ = ["PruneOptions", "Pruned", "Row", "prune"]

PLACES = {"PruneOptions": "options", "Pruned": "report", "Row": "report", "prune": "run"}

if not TYPE_CHECKING:  # else a type checker takes every name for one of this module

    def __getattr__(name: str) -> object:
        """Return a name of the API, imported at its first use."""
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the names of the module, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})

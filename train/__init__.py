"""Training: pictures to a checkpoint (``sr-train``).

``from sr_deploy.train import train, TrainOptions`` is the Python API; its names are imported when they are asked for, so that
commands stay quick. Begin with ``run.py``: what a run does, step by step. ``options.py`` is all it can be asked for,
``start.py`` the network it begins with; ``command.py`` reads arguments. The rooms: ``networks``, ``weights`` (files of weights),
``data`` (batches of patches), ``losses``, ``loop`` (steps, states, processes).

Imports ``sr_deploy`` and no other folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_deploy.train.data.prepare import Prepared
    from sr_deploy.train.loop.status import Status
    from sr_deploy.train.options import PrepareOptions, TrainOptions
    from sr_deploy.train.run import Trained, prepare, train

__all__ = ["PrepareOptions", "Prepared", "Status", "TrainOptions", "Trained", "prepare", "train"]

PLACES = {
    **dict.fromkeys(("PrepareOptions", "TrainOptions"), "options"),
    **dict.fromkeys(("Trained", "prepare", "train"), "run"),
    "Prepared": "data.prepare",
    "Status": "loop.status",
}

if not TYPE_CHECKING:  # else a type checker takes every name for one of this module

    def __getattr__(name: str) -> object:
        """Return a name of the API, imported at its first use."""
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the names of the module, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})

"""Training: pictures to a checkpoint (``sr-train``).

``from sr_deploy.train import train, TrainOptions`` is the Python API; its names are imported when they are asked for, so that
commands stay quick. Begin with ``run.py``: what a run does, step by step. ``options.py`` is all it can be asked for,
``start.py`` the network it begins with; ``command.py`` reads arguments. The rooms: ``networks``, ``weights`` (files of weights),
``data`` (batches of patches), ``losses``, ``loop`` (steps, states, processes).

Imports ``sr_deploy`` and no other folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.train.data.prepare import PrepareResult
    from sr_deploy.train.loop.status import Status
    from sr_deploy.train.options import PrepareOptions, TrainOptions
    from sr_deploy.train.run import TrainResult, prepare, train
else:
    __getattr__, __dir__ = lazy(
        __name__,
        PrepareOptions="options",
        PrepareResult="data.prepare",
        Status="loop.status",
        TrainOptions="options",
        TrainResult="run",
        prepare="run",
        train="run",
    )

__all__ = ["PrepareOptions", "PrepareResult", "Status", "TrainOptions", "TrainResult", "prepare", "train"]

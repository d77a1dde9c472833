"""Compression: a checkpoint to a smaller checkpoint (``sr-prune``): pruning, fine-tuning, quantization-aware training.

``from sr_deploy.compress import prune, PruneOptions`` is the Python API; its names are imported when they are asked for, so that
commands stay quick. Begin with ``run.py``: what a pruning does, step by step. ``options.py`` is all it can be asked for,
``tuning.py`` how the smaller network is trained, ``report.py`` what comes out; ``command.py`` reads arguments. The rooms:
``pruning`` (which filters go), ``teaching`` (the dense network as teacher), ``qat``.

Imports ``train``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.compress.options import PruneOptions
    from sr_deploy.compress.report import PruneResult, Row
    from sr_deploy.compress.run import prune
else:
    __getattr__, __dir__ = lazy(__name__, PruneOptions="options", PruneResult="report", Row="report", prune="run")

__all__ = ["PruneOptions", "PruneResult", "Row", "prune"]

"""``sr-gate``: engines measured against the fp32 network, and those rejected that lost more than their budget.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then. ``check.py`` compares on pictures, ``weights.py`` and
``thresholds.py`` compare what the files hold, ``sr_deploy/budgets.py`` reads the limits and ``sr_deploy/comparison.py`` applies
them, for the accuracy guard too; ``models.py`` opens whatever can be measured.
The rooms: ``eval/`` is ``sr-eval``, ``report/`` writes the verdict.

Imports ``runtime``; ``train``, and so torch, only inside the functions that open a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.gate.options import GateOptions
    from sr_deploy.gate.run import GateResult, gate
else:
    __getattr__, __dir__ = lazy(__name__, GateOptions="options", GateResult="run", gate="run")

__all__ = ["GateOptions", "GateResult", "gate"]

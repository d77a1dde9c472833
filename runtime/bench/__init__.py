"""``sr-bench``: what engines cost in milliseconds and, on pictures, in decibels.

Engines are timed in turns, so that what else the machine does falls on all of them alike.

In Python: ``bench(BenchOptions(engines=(Path("a.onnx"),)))``; ``sr-bench`` prints what that returns.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, ``timing.py`` how it is timed, ``quality.py`` how it
is measured, ``table.py`` what is shown, ``machine.py`` where it was measured.
Imports ``backends``, ``upscaling`` and ``engines``; no other room imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.runtime.bench.run import BenchOptions, BenchResult, bench, compare
else:
    __getattr__, __dir__ = lazy(__name__, BenchOptions="run", BenchResult="run", bench="run", compare="run")

__all__ = ["BenchOptions", "BenchResult", "bench", "compare"]

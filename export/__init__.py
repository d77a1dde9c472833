"""``sr-export``: from a checkpoint to graphs in fp32, fp16 and int8 that every engine can read, and to TensorRT plans.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, file by file. ``prepare.py`` makes the checked
fp32 graph that everything begins with, ``job.py`` holds it, ``int8.py`` is the int8 part. ``settings.py`` fills in what was not
given, ``photographs.py`` opens photographs, ``thresholds.py`` says which thresholds are used: learned, stored or new. The rooms:
``graphs/`` makes and changes graphs, ``calibration/`` finds thresholds, ``accuracy/`` is the guard, ``plans/`` is ``sr-build``.

Imports ``train``, ``compress``, ``runtime`` and ``calib_data``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.export.options import ExportOptions
    from sr_deploy.export.run import ExportResult, export
else:
    __getattr__, __dir__ = lazy(__name__, ExportOptions="options", ExportResult="run", export="run")

__all__ = ["ExportOptions", "ExportResult", "export"]

"""``sr-build``: TensorRT plans from graphs, each checked against its graph before it gets its name.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, ``builder.py`` what each release of TensorRT needs.
``graph.py`` moves Q/DQ pairs to where TensorRT wants them, ``calibration.py`` is TensorRT's own calibrator.

Imports ``graphs`` and ``calibration``. No file here is called ``tensorrt``: it would hide the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.export.plans.options import BuildOptions
    from sr_deploy.export.plans.run import BuildResult, Plan, build
else:
    __getattr__, __dir__ = lazy(__name__, BuildOptions="options", BuildResult="run", Plan="run", build="run")

__all__ = ["BuildOptions", "BuildResult", "Plan", "build"]

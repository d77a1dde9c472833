"""``sr-eval``: PSNR, SSIM and, where asked, LPIPS and FID of models on pictures.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then. ``perceptual.py`` holds LPIPS and FID; torch is
imported for them only.

Imports ``gate/models.py``, which opens what is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_deploy.lazy import lazy

if TYPE_CHECKING:
    from sr_deploy.gate.eval.options import EvalOptions
    from sr_deploy.gate.eval.run import EvalResult, Measurement, evaluate
else:
    __getattr__, __dir__ = lazy(__name__, EvalOptions="options", EvalResult="run", Measurement="run", evaluate="run")

__all__ = ["EvalOptions", "EvalResult", "Measurement", "evaluate"]

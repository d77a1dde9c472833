"""sr-deploy: super-resolution networks from training to a small, fast engine whose picture quality has been checked.

``from sr_deploy import Upscaler`` is what an application needs; it is imported when it is asked for, so that commands stay quick.

What all folders share is here: ``card.py``, the model card; ``luma.py``, ``degrade.py`` (MATLAB's bicubic) and ``measure.py``
(PSNR, SSIM); ``pictures.py`` and ``planes.py``, pictures as networks read them; ``thresholds.py``, how int8 is clipped;
``files.py``, ``errors.py``, and what every command has: ``options.py``, ``console.py``, ``progress.py``, ``signals.py``.

Nothing of it calls home. The Linux wheel of ONNX Runtime would, since 1.31: unless the variable below is set before its first
import, it writes a device id under the cache folder and sends events. A value that is set already is kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from sr_deploy.runtime.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__"]


if not TYPE_CHECKING:  # else a type checker takes every name for one of this module

    def __getattr__(name: str) -> object:
        """Return :class:`sr_deploy.runtime.upscaler.Upscaler`, imported at its first use."""
        if name == "Upscaler":
            from sr_deploy.runtime.upscaler import Upscaler

            return Upscaler
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the module, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})

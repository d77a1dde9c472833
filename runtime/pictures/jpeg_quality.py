"""The quality that a JPEG was saved with, by its quantization tables.

libjpeg scales the tables of the standard (ITU-T T.81, annex K) by ``5000 / quality`` per cent below 50 and by
``200 - 2 * quality`` above (``jpeg_quality_scaling`` in its jcparam.c). Other programs have tables of their own: of those this is
the quality of libjpeg that quantizes luma as coarsely on average.
"""

from __future__ import annotations

from PIL import Image

STANDARD_LUMA_SUM = 3688  # of the 64 steps in table K.1, which is quality 50


def jpeg_quality(image: Image.Image) -> int | None:
    """Return the quality, 1 to 100, that an opened picture was saved with; ``None`` where it is no JPEG."""
    steps = getattr(image, "quantization", {}).get(0)
    if not steps:
        return None
    percent = 100.0 * sum(steps) / STANDARD_LUMA_SUM
    quality = 5000.0 / percent if percent > 100.0 else 100.0 - percent / 2.0
    return int(min(max(round(quality), 1), 100))

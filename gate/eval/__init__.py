"""``sr-eval``: PSNR, SSIM and, where asked, LPIPS and FID of models on pictures.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then. ``perceptual.py`` holds LPIPS and FID; torch is
imported for them only.

Imports ``gate/models.py``, which opens what is measured.
"""

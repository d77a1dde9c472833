"""``sr-build``: TensorRT plans from graphs, each checked against its graph before it gets its name.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, ``build.py`` what each release of TensorRT is told.
``graph.py`` moves Q/DQ pairs to where TensorRT wants them, ``calibration.py`` is TensorRT's own calibrator.

Imports ``graphs`` and ``calibration``. No file here is called ``tensorrt.py``: it would hide the package.
"""

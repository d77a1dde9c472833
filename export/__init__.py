"""``sr-export``: from a checkpoint to graphs in fp32, fp16 and int8 that every engine can read, and to TensorRT plans.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, file by file. ``prepare.py`` makes the checked
fp32 graph that everything begins with, ``job.py`` holds it, ``int8.py`` is the int8 part. The rooms: ``graphs/`` makes and
changes graphs, ``calibration/`` finds thresholds, ``accuracy/`` is the guard, ``plans/`` is ``sr-build``.

Imports ``train``, ``compress``, ``runtime`` and ``calib_data``.
"""

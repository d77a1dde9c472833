"""Thresholds of int8: what flows through a graph, what is clipped, and what makes up for the loss.

Begin with ``calibrate.py``, the thresholds; ``pictures.py`` cuts photographs into tiles, ``activations.py`` runs
the graph, ``refine.py`` and ``bias.py`` make the integers fit better, ``learned.py`` takes what training has learned.

Imports ``graphs`` and ``accuracy``.
"""

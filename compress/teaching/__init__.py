"""How quality is won back after pruning: the dense network as a teacher.

Begin with ``teacher.py``: which teacher there is and what it is asked for; then ``distill.py``, the step of training, and
``features.py``, which feature maps are compared. ``options.py`` are the options of ``sr-prune`` for this; it is light.

Imports ``pruning``.
"""

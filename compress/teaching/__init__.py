"""How quality is won back after pruning: the dense network as a teacher.

Begin with ``teacher.py``: which teacher there is and what it is asked for; then ``distill.py``, the step of training, and
``features.py``, which feature maps are compared.

Imports ``pruning``.
"""

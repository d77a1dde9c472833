"""Which filters go, how many where, and the smaller network that is left.

Filters are masked first; the smaller network computes what the masked one does, which is checked.

Begin with ``masks.py``, who makes the masks; then ``removal.py``, and ``plan.py`` for budgets.
Imports no other room of ``compress``.
"""

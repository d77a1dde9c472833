"""``sr-gate``: engines measured against the fp32 network, and those rejected that lost more than their budget.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then. ``check.py`` compares on pictures, ``weights.py`` and
``thresholds.py`` look into the files, ``budgets.py`` reads the limits; ``models.py`` opens whatever can be measured. The rooms:
``eval/`` is ``sr-eval``, ``report/`` writes the verdict.

Imports ``runtime``; ``train``, and so torch, only inside the functions that open a checkpoint.
"""

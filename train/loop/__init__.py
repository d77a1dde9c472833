"""The training loop: steps, their recipe, validation, states that a run continues from, processes.

A run that is interrupted and continued gives the same weights, bit for bit, as one that was not.

Begin with ``loop.py``; ``stepper.py`` is one step, ``recipe.py`` the options of a run as one value.
Imports ``networks``, ``weights``, ``data`` and ``losses``.
"""

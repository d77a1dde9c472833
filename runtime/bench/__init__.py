"""``sr-bench``: what engines cost in milliseconds and, on pictures, in decibels.

Engines are timed in turns, so that what else the machine does falls on all of them alike.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, ``timing.py`` how it is timed, ``table.py`` what is
shown, ``machine.py`` where it was measured.
Imports ``backends``, ``upscaling`` and ``engines``; no other room imports it.
"""

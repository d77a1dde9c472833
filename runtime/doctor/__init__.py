"""``sr-doctor``: what this machine can do, and the one command that gets what is missing.

Every finding is tried, not guessed.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then.
Imports ``pictures`` and ``backends``; no other room imports it.
"""

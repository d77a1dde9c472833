"""The shipped engines, and ``engines.json`` with what was measured of each.

``make engines`` makes the files from the committed weights and decisions of the guard.

Begin with ``shipped.py``: which engine a name, or none, means. ``listing.py`` is ``sr-infer --list``.
Imports ``backends`` and ``upscaling``.
"""

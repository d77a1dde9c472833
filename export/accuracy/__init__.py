"""What int8 loses, layer by layer, and which layers stay out of it: the accuracy guard.

Begin with ``guard.py``, the search; ``selection.py`` measures on photographs kept for this, ``sensitivity.py`` one layer at a
time. A decision is kept in a file (``decision_file.py``), so that nothing is searched twice.

Imports ``graphs``.
"""

"""Films through an engine: frames enlarged, sound and everything else as it was.

Frames stay in Y'CbCr; PyAV reads and writes them, and is imported only when there is a film.

Begin with ``run.py``, one film from beginning to end; ``film.py`` is how ``sr-infer`` calls it, ``names.py`` what is known
without opening anything.
Imports ``backends`` and ``upscaling``.
"""

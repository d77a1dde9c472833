"""Videos through an engine: frames enlarged, sound and everything else as it was.

Frames stay in Y'CbCr; PyAV reads and writes them, and is imported only when there is a video.

Begin with ``run.py``, one video from beginning to end; ``enlarge.py`` is how ``sr-infer`` calls it, ``names.py`` what is known
without opening anything. ``source.py`` reads frames and gives each its time, ``coding.py`` knows its colours, ``target.py`` and
``result.py`` write it, ``streams.py`` is sound and everything else.
Imports ``backends`` and ``upscaling``.
"""

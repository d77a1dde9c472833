"""Pictures through an engine: cut into tiles, computed, put together again.

Arrays go in and come out; which pixel comes from which tile, what happens to colour and transparency, and how stages overlap
is decided here.

Begin with ``upscaling.py``, one picture from beginning to end; then ``tiling.py``, which is exact, ``pipeline.py``, the way of
many through one engine, and ``stages.py``, the threads of it.
Imports ``pictures`` (what samples stand for) and ``backends`` (the protocol).
"""

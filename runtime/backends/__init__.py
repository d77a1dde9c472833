"""Loaded models that compute tiles: one file for each way to run them.

An engine takes tiles of one shape and returns larger ones; it knows nothing of pictures, colour or files of pictures. What is
known of an engine file before it is opened (its card, its identity, whether it may be loaded) is decided here as well.

Begin with ``engine.py``, the protocol; ``load.py`` goes from a file to an engine, ``onnx_engine.py`` and
``tensorrt_engine.py`` are the engines.
Imports no other room of ``runtime``. Backends import their libraries when they are loaded.
"""

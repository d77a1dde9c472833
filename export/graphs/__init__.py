"""ONNX graphs: made from networks, read, and changed by passes.

A pass takes a graph and returns a new one: ``half.py`` to float16, ``quantize.py`` to int8 by Q/DQ pairs.

Begin with ``to_onnx.py``, from a network to its graph; then ``reading.py``, what is read off a graph: halo, multiplications.
Imports no other room of ``export``.
"""

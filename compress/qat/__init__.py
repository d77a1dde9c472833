"""Quantization-aware training: the int8 arithmetic of the exported graph, inside the network that is trained.

Begin with ``placement.py``, where the exported graph will quantize; then ``fake_quantization.py``, what happens there, and
``awareness.py``, the training with its options.

Imports ``teaching`` for the options of ``sr-prune``; the thresholds are those of ``sr_deploy/thresholds.py``.
"""

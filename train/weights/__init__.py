"""Weights of networks in files: our checkpoints, those of other repositories, and what a run begins with.

Checkpoints of others are recognised by the names and shapes of their tensors; none of their code is run.

Begin with ``checkpoint.py``, our own format; then ``public.py``, which repositories are known.
Imports ``networks``.
"""

"""The networks: PyTorch modules, and the one table that names them.

A network says of itself what pruning and export ask: its channel groups, its scales, what is folded when it is exported.

Begin with ``registry.py``: which networks there are, how one is built, how its card is made; then ``vdsr.py``, the smallest.
Imports no other room of ``train``.
"""

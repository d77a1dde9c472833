"""What training makes small: losses by name, and sums of them as an expression.

Terms compare pixels in [0, 1], feature maps of VGG19, or what a discriminator says.

Begin with ``expression.py``, the terms and how ``--loss`` is read; then ``content.py``, all terms but the discriminator's.
Imports no other room of ``train``.
"""

"""Pictures that do not fit into the memory: read, enlarged and written by rows.

The pixels are those of the same picture in memory. How much memory a picture takes is known from its header, before it is
decoded.

Begin with ``large_picture.py``: what goes by rows, and the whole way; then ``rows.py``, the windows over rows, and
``vips_rows.py``, where they come from.
Imports ``pictures``, ``backends`` and ``upscaling``.
"""

"""Pictures that do not fit into the memory: read, enlarged and written some rows at a time ("streamed").

The pixels are those of the same picture in memory. How much memory a picture takes is known from its header, before it is
decoded.

Begin with ``large_picture.py``: what is streamed, and the whole way; then ``rows.py``, the windows over rows. They come from
``runtime/pictures/rows.py``, and ``writer.py`` is where the result's go.
Imports ``pictures``, ``backends`` and ``upscaling``.
"""

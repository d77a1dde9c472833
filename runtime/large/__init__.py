"""Pictures that do not fit into the memory: read, enlarged and written some rows at a time ("streamed").

The pixels are those of the same picture in memory. How much memory a picture takes is known from its header, before it is
decoded.

Begin with ``large_picture.py``: what is streamed, and the whole way; then ``rows.py``, the windows over rows. All formats are
read by ``vips_rows.py``; ``png_rows.py``, ``jpeg_rows.py`` and ``tiff_rows.py`` write.
Imports ``pictures``, ``backends`` and ``upscaling``.
"""

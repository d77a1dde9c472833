"""Picture files as arrays, and arrays as picture files: every format, depth and kind of colour.

What goes along is kept true: colour profiles, EXIF, orientation, transparency, frames and pages. Pictures are in memory as a
whole; streamed ones are in ``runtime/large``.

Begin with ``picture.py``, what a decoded file is; then ``read.py`` for the way in, by a file that is opened once,
``formats.py`` for what each format holds, ``encode.py`` for the way out. A file with a format in its name is about that one;
``rows.py`` reads deep and streamed pictures by libvips, ``save.py`` writes by it. ``jpeg_quality.py`` is what JPEGs were saved
with.
Imports no other room of ``runtime``.
"""

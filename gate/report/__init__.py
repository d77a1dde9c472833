"""The verdict of the gate in files, for people and for programs.

Begin with ``text.py``: the table, JSON, JUnit XML and the Markdown summary.

Imports ``gate/check.py``, whose results are written; it decides nothing.
"""

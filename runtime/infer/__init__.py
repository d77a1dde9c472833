"""``sr-infer``: files, folders, patterns and standard input, and where their results go.

Nothing that is read is replaced, no two results get one name, a picture that fails holds no other up.

Begin with ``command.py``, the arguments; ``run.py`` is what happens then, ``folder.py`` many pictures through one engine.
``sources.py`` finds what is read, ``result_names.py`` where results go, ``claims.py`` who makes a picture of several runs.
Imports every room of ``runtime`` but ``bench`` and ``doctor``; none imports it.
"""

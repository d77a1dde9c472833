"""Running engines on pictures and videos: everything here works without torch and without onnx.

Rooms, from the ground up: ``pictures`` (files and arrays), ``backends`` (engines), ``upscaling`` (a picture through an engine),
``engines`` (the shipped ones), ``large`` (streamed pictures), ``video``, and the commands ``bench``, ``doctor``
and ``infer``. ``upscaler.py`` is what an application uses. ``tests/test_layering.py`` says which room may import which.
"""

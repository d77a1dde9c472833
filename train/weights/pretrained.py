"""The trained checkpoints of the repository, found by name.

They lie in ``train/pretrained`` of a checkout. The wheel leaves them out: 38 MB that are of use only with torch, beside 3 MB
of engines. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "pretrained"


def checkpoint_path(text: str | os.PathLike[str]) -> Path:
    """Return the trained checkpoint that ``text`` is the name of, without a suffix; else ``text`` as a path.

    A file of that name always comes first; what holds a slash is never a name.
    """
    path, named = Path(text), FOLDER / f"{os.fspath(text)}.safetensors"
    is_name = path.name == os.fspath(text) and not path.suffix
    if is_name and not os.path.exists(text) and os.path.isfile(named):  # noqa: PTH110, PTH113 -- never raise
        return named
    return path


def whereabouts(asked: Path) -> str:
    """Return how a message ends where ``asked`` is missing: the names of the trained checkpoints, or where they are if not here.

    Nobody who asked for a file by its suffix gets names.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
    if not names:
        return "; trained ones are in train/pretrained of the repository, not in the installed package"
    return "" if asked.suffix else f"; trained ones are {', '.join(names)}"

"""Where names lie, however they are written, and what a run must not replace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sr_deploy.errors import InputError


class Places:
    """Looks up where names lie, each folder once."""

    def __init__(self) -> None:
        self.folders: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return where a name lies, links in its folder followed, whether or not it exists; nothing is raised for loops."""
        folder = path.parent
        if folder not in self.folders:
            self.folders[folder] = os.path.realpath(folder)
        return os.path.join(self.folders[folder], path.name)  # noqa: PTH118


class Inputs:
    """What a run reads, so that no result replaces any of it, whatever ``--overwrite`` says."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Look every file up once."""
        self.where = Places()
        self.places = {self.where.of(path): path for path in paths}
        self.files: dict[tuple[int, int], Path] = {}
        for path in paths:
            with suppress(OSError):
                found = path.stat()
                self.files[found.st_dev, found.st_ino] = path

    def check(self, source: Path, output: Path) -> None:
        """Check one picture and the place of its result.

        Raises:
            InputError: the picture is a folder, or the result would replace something that is read.
        """
        if os.path.isdir(source):  # noqa: PTH112 -- a name that cannot be looked up is told when it is read
            raise InputError(f"{source}: a folder, not a picture; name the pictures in it")
        clash = self.places.get(self.where.of(output))
        with suppress(OSError):
            found = output.stat()
            clash = self.files.get((found.st_dev, found.st_ino), clash)
        if clash is not None:
            which = "the input itself" if clash == source else f"the input {clash}"
            raise InputError(f"{output}: is {which}; choose another name with -o")

"""What ``sr-infer`` is asked to read: files, folders, patterns and ``-`` become a list of picture files.

A file is taken whatever its name. Of a folder, and of what a pattern finds, only files with a picture's or a video's suffix are
taken, hidden ones left out. The order is that of the arguments, and sorted inside each of them; a picture that is found twice is
done once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.files import PICTURE_SUFFIXES
from sr_deploy.picture_kinds import READ
from sr_deploy.runtime.infer.places import Places
from sr_deploy.runtime.infer.walk import Walk, identity_of
from sr_deploy.runtime.video.names import FOUND

SUFFIXES = PICTURE_SUFFIXES | FOUND  # of what is taken from folders
STDIN = "-"
MAGIC = re.compile(r"[*?\[]")
Kind = Literal["named", "matched", "walked", "streamed"]


@dataclass(frozen=True)
class Source:
    """One picture to be read."""

    path: Path
    relative: Path  # its name in the folder of the results: mirrored below ``root`` where there is one
    root: Path | None = None  # the folder it was found in
    kind: Kind = "named"  # by its name, by a pattern, in a folder, from standard input

    @property
    def found(self) -> bool:
        """Whether it was found rather than named."""
        return self.kind in ("matched", "walked")


@dataclass(frozen=True)
class Refused:
    """An argument that gives no picture, or a folder that cannot be listed."""

    name: str
    error: InputError


def sources_of(
    arguments: Sequence[str],
    *,
    results: Path | None = None,
    standard_input: Callable[[], Path] | None = None,
    left_out: Callable[[Path], None] = lambda path: None,
) -> tuple[list[Source], list[Refused]]:
    """Return the pictures that ``arguments`` name, and the arguments that name none.

    Args:
        arguments: files, folders, patterns and ``-`` as they were given.
        results: the folder of the results; where it lies in a folder that is walked, nothing in it is taken.
        standard_input: returns the file that holds what ``-`` stands for; called once.
        left_out: told each file that is in a folder, or fits a pattern, and has neither a picture's nor a video's suffix.
    """
    identity = None if results is None else identity_of(results)
    finder = Finder(Walk(left_out=frozenset() if identity is None else frozenset({identity})), left_out)
    found: list[Source] = []
    for argument in dict.fromkeys(arguments):
        if argument == STDIN and standard_input is not None:
            found.append(Source(standard_input(), Path("stdin"), kind="streamed"))
        else:
            found += finder.of(argument)
    return first_of_each(found), finder.refused


@dataclass
class Finder:
    """Turns arguments into pictures, and remembers those that give none."""

    walk: Walk
    left_out: Callable[[Path], None] = lambda path: None

    def __post_init__(self) -> None:
        self.refused: list[Refused] = []

    def of(self, argument: str) -> list[Source]:
        """Return the pictures of one argument."""
        path = Path(argument)
        if argument == "":
            return self._none(argument, "'': an empty name; name a picture")
        if os.path.isdir(path):  # noqa: PTH112 -- a name that is too long is told when it is read
            return self._of_folder(path)
        if "://" in argument and not os.path.lexists(path):
            return self._none(argument, f"{argument}: a URL, files are read; download it first")
        if not MAGIC.search(argument) or os.path.lexists(path):
            return [Source(path, Path(path.name))]
        return self._of_pattern(path)

    def _of_folder(self, folder: Path) -> list[Source]:
        before = len(self.refused)
        files = self._taken(self._walk().files(folder))
        if not files and len(self.refused) == before:
            return self._none(folder, f"{folder}: holds no picture; put {', '.join(READ)} files or videos into it")
        return [Source(path, path.relative_to(folder), folder, "walked") for path in files]

    def _of_pattern(self, pattern: Path) -> list[Source]:
        parts = pattern.parts
        fixed = next(i for i, part in enumerate(parts) if MAGIC.search(part))
        root, wanted, before = Path(*parts[:fixed]), parts[fixed:], len(self.refused)
        hidden = any(part.startswith(".") for part in wanted)
        files = self._walk(hidden=hidden, depth=None if "**" in wanted else len(wanted) - 1).files(root)
        matched = [path for path in files if matches(path.relative_to(root).parts, wanted)]
        suffix = Path(wanted[-1]).suffix
        if not suffix or MAGIC.search(suffix):
            matched = self._taken(matched)
        if not matched and len(self.refused) == before:
            return self._none(pattern, f"{pattern}: matches no picture; check the pattern")
        return [Source(path, path.relative_to(root), root, "matched") for path in matched]

    def _taken(self, files: Sequence[Path]) -> list[Path]:
        """Return the files with a suffix that is taken; the others are told to be left out."""
        taken = [path for path in files if path.suffix.lower() in SUFFIXES]
        for path in files:
            if path.suffix.lower() not in SUFFIXES:
                self.left_out(path)
        return taken

    def _walk(self, *, hidden: bool = False, depth: int | None = None) -> Walk:
        return Walk(self.walk.left_out, hidden, depth, self._unlisted)

    def _unlisted(self, path: Path, err: OSError) -> None:
        self._none(path, f"{path}: cannot be listed ({err.strerror or err}); check its name and permissions")

    def _none(self, name: str | Path, message: str) -> list[Source]:
        self.refused.append(Refused(str(name), InputError(message)))
        return []


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern, ``**`` any number of folders, as in a shell.

    A name that begins with a dot is matched only by a part that does.
    """

    @cache
    def match_from(part: int, place: int) -> bool:
        if place == len(pattern):
            return part == len(parts)
        wanted = pattern[place]
        if wanted == "**" and match_from(part, place + 1):
            return True
        if part == len(parts) or (parts[part].startswith(".") and not wanted.startswith(".")):
            return False
        return fnmatchcase(parts[part], wanted) and match_from(part + 1, place if wanted == "**" else place + 1)

    return match_from(0, 0)


def first_of_each(sources: Iterable[Source]) -> list[Source]:
    """Return the sources without those whose file came before under the same name, written differently perhaps."""
    places = Places()
    found: dict[str, Source] = {}
    for source in sources:
        found.setdefault(places.of(source.path), source)
    return list(found.values())

"""Where results go: beside their pictures or into a folder that mirrors theirs, no two to one file, none read again."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_deploy.errors import InputError, MachineError
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.infer.places import Places
from sr_deploy.runtime.infer.sources import Source
from sr_deploy.runtime.pictures.formats import FOLLOWING, FORMATS, Writing, choose_format, format_of_name, result_name
from sr_deploy.runtime.pictures.standard_streams import STDOUT
from sr_deploy.runtime.video import names as video_names
from sr_deploy.runtime.video.names import is_video, video_name

Pair = tuple[Path, Path]
"""A picture and its result."""


@dataclass(frozen=True)
class Naming:
    """What decides the names of results."""

    asked: str | None  # with -o
    scale: int
    reading: Reading = DEFAULT
    writing: Writing = FOLLOWING


def results_folder(asked: str | None) -> Path | None:
    """Return the folder that ``-o`` names; ``None`` where it names a file, standard output or nothing.

    A name that ends in a slash is a folder, and so is one without a suffix.

    Raises:
        InputError: an empty name.
    """
    if asked == "":
        raise InputError("-o '': an empty name; name a folder or a picture file")
    if asked is None or asked == "-" or Path(asked) == STDOUT:
        return None
    output = Path(asked)
    return output if output.is_dir() or asked.endswith(("/", os.sep)) or not output.suffix else None


def result_pairs(sources: Sequence[Source], naming: Naming, *, resumed: bool = False) -> list[Pair]:
    """Return each picture with the place of its result.

    What was found, not named, and is the result of another picture of this run, is left out; where a run is ``resumed`` (with
    ``--skip-existing``) what was named too: a shell that expands ``*.png`` names the results of the first run.

    Raises:
        InputError: two pictures would be written to one file, or one file is asked for several pictures, or its suffix is no
            picture's or contradicts ``--format``; nothing is done then.
    """
    places, asked = Places(), naming.asked
    pairs = without_results([(source, _result(source, naming)) for source in sources], places, named_too=resumed)
    if len(pairs) > 1 and asked is not None and results_folder(asked) is None:
        raise InputError(f"{asked}: one file for {len(pairs)} pictures; name a folder with -o")
    seen: dict[str, Path] = {}
    for source, path in pairs:
        if path == STDOUT and len(pairs) > 1:
            raise InputError(f"standard output takes one picture, not {len(pairs)}; name a folder with -o")
        place = places.of(path)
        if place in seen:
            raise InputError(f"{path}: would be written for {seen[place]} and for {source.path}; use separate folders")
        seen[place] = source.path
    return [(source.path, path) for source, path in pairs]


def without_results(
    pairs: Sequence[tuple[Source, Path]], places: Places, *, named_too: bool = False
) -> list[tuple[Source, Path]]:
    """Return the pairs without the pictures that were found and are results of other pairs.

    The stem of a result is longer than its picture's, so a picture is judged
    when those that could have made it are judged already.
    """
    results: set[str] = set()
    kept: set[int] = set()
    for source, path in sorted(pairs, key=lambda pair: len(pair[0].path.stem)):
        if (named_too or source.found) and any(places.of(path) in results for path in may_be(source.path)):
            continue
        results.add(places.of(path))
        kept.add(id(source))
    return [(source, path) for source, path in pairs if id(source) in kept]


def may_be(path: Path) -> list[Path]:
    """Return the results that a file may be: its own name, and of a stopped video, ``NAME.part2.mp4``, the whole one's."""
    stopped = re.fullmatch(r"(.+)\.part\d*", path.stem) if is_video(path) else None
    return [path] if stopped is None else [path, path.with_name(f"{stopped[1]}{path.suffix}")]


def _result(source: Source, naming: Naming) -> Path:
    asked, folder = naming.asked, results_folder(naming.asked)
    if folder is not None:
        if folder.exists() and not folder.is_dir() and not str(asked).endswith("/"):
            raise InputError(f"{folder}: a file that is no picture; name a folder or a picture file with -o")
        return folder / source.relative.with_name(_name(source, naming))
    if asked is None and source.kind != "streamed":
        return _beside(source, naming)
    if asked is None or asked == "-" or Path(asked) == STDOUT:
        if is_video(source.path):
            raise InputError(f"{source.path}: a video cannot go to standard output; name a file or a folder with -o")
        return STDOUT
    if source.kind == "walked":
        raise InputError(f"{asked}: a file for a folder of pictures; name a folder with -o, or end its name in a slash")
    if is_video(source.path):
        video_names.check_named(Path(asked))
    else:
        check_named(Path(asked), naming.writing)
    return Path(asked)


def _name(source: Source, naming: Naming) -> str:
    if is_video(source.path):
        return video_name(source.relative, naming.scale)
    return result_name(source.relative, naming.scale, choose_format(source.path, naming.writing, naming.reading))


def _beside(source: Source, naming: Naming) -> Path:
    name = _name(source, naming)
    if source.kind != "walked" or source.root is None:
        return source.path.with_name(name)
    root = source.root if source.root.name not in ("", "..") else Path(os.path.realpath(source.root))
    if not root.name:
        raise InputError(f"{source.root}: has no place beside it for a folder of results; name one with -o")
    return root.with_name(f"{root.name}_x{naming.scale}") / source.relative.with_name(name)


def check_named(output: Path, writing: Writing) -> None:
    """Check the one file that is asked for.

    Raises:
        InputError: its suffix is no picture's or contradicts ``--format``.
    """
    known = format_of_name(output)
    if known is None:
        suffixes = ", ".join(suffix for kind in FORMATS.values() for suffix in kind.suffixes[:1])
        raise InputError(f"{output}: {output.suffix} is no format that is written; end its name in {suffixes}, or name a folder")
    if writing.format not in (None, known):
        raise InputError(f"{output}: its suffix says {known}, --format {writing.format}; leave one of them out")
    Writing(known, writing.quality)  # a quality is no use where the suffix names a format without loss


def check_folder(folder: Path) -> None:
    """Check, before any work, that ``folder`` can be written, or made where it is missing.

    Raises:
        InputError: a file stands in its way.
        MachineError: it is not writable for this user, or lies on something read-only.
    """
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{folder}: cannot be a folder ({place} is a file or leads nowhere); choose another place with -o")
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise MachineError(f"{folder}: cannot be written (no permission for {place}); choose another place with -o")

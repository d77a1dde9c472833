"""Pictures in folders that are not taken: of kinds that are not read, or with no picture's suffix."""

from __future__ import annotations

import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sr_deploy.picture_kinds import HEAD, READ, SUFFIXES, kind_of, tool_of
from sr_deploy.runtime.pictures.beside import some_of

MOST_KINDS = 8  # that are told
MOST_MISSES = 100  # files of one suffix that are no pictures: then no more of them are opened
OTHER_SUFFIXES = (  # of files that are no pictures
    "txt md rst html htm css js ts py sh c h json jsonl xml csv tsv yaml yml toml ini log xmp aae thm pp3 dop cos "
    "onnx plan npy npz pt pth zip tar gz bz2 xz 7z rar mp3 wav flac m4a ogg srt db sqlite exe dll so doc docx xls "
    "xlsx ppt pptx safetensors "
)
NO_PICTURES = frozenset(f".{suffix}" for suffix in OTHER_SUFFIXES.split())


class LeftOut:
    """Collects what is left out of folders and patterns, by its kind."""

    def __init__(self) -> None:
        self.found: dict[str, list[Path]] = defaultdict(list)
        self._misses: Counter[str] = Counter()

    def add(self, path: Path) -> None:
        """Look at a file that was not taken; what is no picture is forgotten."""
        kind = self._kind(path)
        if kind:
            self.found[kind].append(path)

    def each(self) -> Iterator[tuple[Path, str]]:
        """Yield each picture that was left out, and why, with what to do."""
        for kind, paths in self.found.items():
            why = (
                f"{kind} of another suffix; give it by name"
                if kind in READ
                else f"{kind} is not read; convert it with {tool_of(kind)}"
            )
            for path in paths:
                yield path, why

    def line(self) -> str:
        """Return one line about all of it; nothing where nothing was left out."""
        kinds = sorted(self.found.items(), key=lambda item: -len(item[1]))
        told = [f"{len(paths)} {kind} ({some_of([path.name for path in paths])})" for kind, paths in kinds[:MOST_KINDS]]
        rest = sum(len(paths) for _, paths in kinds[MOST_KINDS:])
        told += [f"{rest} of {len(kinds) - MOST_KINDS} other kinds"] if rest else []
        return f"left out: {', '.join(told)}; {self._advice([kind for kind, _ in kinds[:MOST_KINDS]])}" if told else ""

    def _advice(self, kinds: list[str]) -> str:
        tools: dict[str, list[str]] = defaultdict(list)
        for kind in kinds:
            if kind not in READ:
                tools[tool_of(kind)].append(kind)
        advice = [f"convert {', '.join(converted)} with {tool}" for tool, converted in tools.items()]
        named = [kind for kind in kinds if kind in READ]
        return ", ".join([*advice, *([f"give {' or '.join(named)} of another suffix by name"] if named else [])])

    def _kind(self, path: Path) -> str:
        suffix = path.suffix.lower()
        if suffix in NO_PICTURES or (suffix not in SUFFIXES and self._misses[suffix] >= MOST_MISSES):
            return ""
        head = b""
        with suppress(OSError):  # what cannot be read has its name alone
            if not stat.S_ISREG(path.stat().st_mode):
                return ""
            with path.open("rb") as stream:
                head = stream.read(HEAD)
        kind = kind_of(path, head) if head or suffix in SUFFIXES else ""
        self._misses[suffix] += not kind
        return kind

"""Pictures that do not fit into the memory: told before they are decoded, and enlarged by rows where that can be done.

A picture in memory takes its samples, those of the result, and the file that the result is encoded into. By rows, decoding
(libvips), tiles and encoding hold some hundreds of rows: memory goes by the width. The pixels are the same.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import replacing
from sr_deploy.pictures import DEFAULT, Reading
from sr_deploy.runtime.backends.engine import Engine
from sr_deploy.runtime.large.estimate import band_bytes, in_memory_bytes
from sr_deploy.runtime.large.facts import Facts, facts_of, need_reading, nominal_facts
from sr_deploy.runtime.large.memory import in_words
from sr_deploy.runtime.large.rows import Stoppable
from sr_deploy.runtime.large.turned import upright_rows
from sr_deploy.runtime.large.upscale import enlarge_rows
from sr_deploy.runtime.large.writer import RowWriter
from sr_deploy.runtime.pictures.encode import reduced
from sr_deploy.runtime.pictures.formats import FOLLOWING, Writing, check_holds, lacks
from sr_deploy.runtime.pictures.head import Head, blank
from sr_deploy.runtime.pictures.rows import RowSource, rows_of, unreadable
from sr_deploy.runtime.pictures.save import carried_by
from sr_deploy.runtime.pictures.standard_streams import STDOUT, write_standard_output

WRITTEN = ("png", "jpeg", "tiff")
CHUNK = 2**20


@dataclass(frozen=True)
class Watch:
    """How a picture by rows is watched while it is enlarged."""

    on_part: Callable[[float], None] = lambda part: None  # told the part that is done, 0 to 1, after each band of tiles
    stop: threading.Event = field(default_factory=threading.Event)  # ends it where it is; nothing is left
    overlap: bool = False  # decode, compute and finish in threads


QUIET = Watch()


@dataclass(frozen=True)
class LargePicture:
    """A picture that is to be enlarged by rows."""

    head: Head
    scale: int
    format: str = "png"  # of the result, one of ``WRITTEN``
    quality: int | None = None
    allow_truncated: bool = False
    budget: int = 2**62  # bytes that may be taken

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        h, w, _ = self.head.shape
        return w * self.scale, h * self.scale

    def enlarge(self, engine: Engine, output: Path, watch: Watch = QUIET) -> None:
        """Write the enlarged picture, whole or not at all. Other work on ``engine`` has to wait.

        Args:
            engine: that serves the scale.
            output: a file, or ``STDOUT``, which gets the picture when it is complete.
            watch: who is told, and who may end it.

        Raises:
            KeyboardInterrupt: ``watch.stop`` was set.
            InputError: the picture is damaged.
            MachineError: pyvips is missing, the picture cannot be read by rows, or the disk is full.
            EngineError: the backend failed.
        """
        if output == STDOUT:
            folder = Path(tempfile.gettempdir())
            with tempfile.TemporaryFile(prefix="sr-", dir=folder) as stream:
                self._write(engine, stream, folder, watch)
                stream.seek(0)
                write_standard_output(iter(partial(stream.read, CHUNK), b""))
            return
        with replacing(output) as temporary, temporary.open("r+b") as stream:
            self._write(engine, stream, output.parent, watch)

    def _write(self, engine: Engine, stream: BinaryIO, folder: Path, watch: Watch) -> None:
        facts = self._facts(engine, watch)
        with closing(upright_rows(self._opened(engine, watch), self.head.orientation, folder)) as source:
            w, h = self.size
            carried = carried_by(self.head.picture, self.format, (w, h), self.quality)
            page = blank((h, w), source.shape[2], reduced(np.empty((0, 1, 1), source.dtype), self.format).dtype)
            with (
                RowWriter(self.format, stream, page, carried) as writer,
                closing(enlarge_rows(engine, source, self.scale, facts, overlap=watch.overlap)) as parts,
            ):
                for part, rows in parts:
                    writer.write(reduced(rows, self.format))
                    watch.on_part(part)
            stream.flush()

    def _facts(self, engine: Engine, watch: Watch) -> Facts:
        pixels = self.head.picture.pixels
        if not need_reading(pixels.shape[2], pixels.dtype):
            return nominal_facts(pixels.dtype)
        with closing(self._opened(engine, watch)) as source:
            return facts_of(source)

    def _opened(self, engine: Engine, watch: Watch) -> RowSource:
        source = rows_of(self.head, allow_truncated=self.allow_truncated)
        need = source.whole_bytes + band_bytes(self.head, engine.card, self.scale)
        if source.whole_bytes and need > self.budget:
            source.close()
            raise MachineError(
                f"{self.head.path}: takes {in_words(need)} of memory by rows, because it is stored progressively or interlaced, "
                f"and {in_words(self.budget)} may be used; allow more with --memory, or store it plainly"
            )
        return Stoppable(source, watch.stop)


@dataclass(frozen=True)
class Memory:
    """How many bytes a picture may take, and what becomes of one that takes more."""

    budget: int
    reading: Reading = DEFAULT
    writing: Writing = FOLLOWING

    def large(self, head: Head, kind: str, card: ModelCard, scale: int) -> LargePicture | None:
        """Return how a picture is enlarged by rows, or ``None`` where it fits into the memory.

        Args:
            head: of the picture's file.
            kind: the format of the result.
            card: of the engine.
            scale: the factor.

        Raises:
            MachineError: it does not fit, and cannot be enlarged by rows: pyvips is missing, or even that takes too much.
            InputError: it does not fit, and the result's format cannot hold it or cannot be written by rows.
        """
        path, need = head.path, in_memory_bytes(head, card, scale)
        if need <= self.budget:
            return None
        check_holds(kind, head.picture, scale, path)
        told = f"{path}: {head.shape[1]}x{head.shape[0]} pixels take {in_words(need)} of memory"
        may = f"{in_words(self.budget)} may be used"
        least = band_bytes(head, card, scale)
        if least > self.budget:
            raise MachineError(f"{told}, {in_words(least)} by rows, {may}; allow more with --memory, or cut it into parts")
        if not head.plain:
            raise MachineError(unreadable(head))
        if head.picture.pixels.dtype == np.float32 and kind != "tiff":
            raise InputError(f"{told}, {may}, and floats are written by rows as TIFF alone; use --format tiff, or more --memory")
        if kind not in WRITTEN:
            able = next(name for name in WRITTEN if not lacks(name, head.picture, scale))
            raise InputError(f"{told}, {may}, and {kind} cannot be written by rows; use --format {able}, or more --memory")
        return LargePicture(head, scale, kind, self.writing.quality, self.reading.allow_truncated, self.budget)

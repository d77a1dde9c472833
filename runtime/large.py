"""Pictures that do not fit into the memory: told before they are decoded, and enlarged by rows where that can be done.

A picture in memory takes its samples, those of the result, and the file that the result is encoded into. By rows, decoding
(libvips, extra ``large``), tiles and encoding (by this project) hold some hundreds of rows: memory goes by the width.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError, MachineError
from sr_deploy.files import replacing
from sr_deploy.runtime.engine import Engine
from sr_deploy.runtime.large_head import Head, head_of
from sr_deploy.runtime.large_jpeg import JpegWriter
from sr_deploy.runtime.large_memory import available_bytes, in_words
from sr_deploy.runtime.large_png import PngWriter
from sr_deploy.runtime.large_rows import Samples
from sr_deploy.runtime.large_saving import Saving, check_holds, format_of
from sr_deploy.runtime.large_source import unreadable, upright_rows
from sr_deploy.runtime.large_tiff import TiffWriter
from sr_deploy.runtime.large_upscale import enlarged_rows
from sr_deploy.runtime.streams import STDOUT, write_standard_output
from sr_deploy.runtime.tiling import grid_of, spans

PROGRAM_BYTES = 200 * 2**20  # Python, the libraries and a small engine
TILE_COPIES = 2.5  # of a band's tiles, in and out: those that wait, the engine's, and the joined rows
CHUNK = 2**20
RESULT_FLOATS = 14  # float32 numbers that colour holds for each pixel of a band's result


class RowWriter(Protocol):
    """Writes one picture by rows."""

    def write(self, rows: Samples) -> None: ...
    def close(self) -> None: ...


WRITERS: dict[str, Callable[[BinaryIO, tuple[int, int, int], np.dtype[np.generic], Saving], RowWriter]] = {
    "PNG": PngWriter,
    "JPEG": JpegWriter,
    "TIFF": TiffWriter,
}


@dataclass(frozen=True)
class LargePicture:
    """A picture that is to be enlarged by rows."""

    head: Head
    scale: int
    saving: Saving
    allow_truncated: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        h, w, _ = self.head.shape
        return w * self.scale, h * self.scale

    def enlarge(
        self,
        engine: Engine,
        output: Path | None,
        *,
        on_part: Callable[[float], None] = lambda part: None,
        overlap: bool = False,
    ) -> None:
        """Write the enlarged picture, whole or not at all; ``None`` is standard output. Other work on ``engine`` has to wait.

        Args:
            engine: that serves the scale.
            output: a file of the format in ``saving``.
            on_part: told the part that is done, 0 to 1, after each band of tiles.
            overlap: decode, compute and finish in threads.

        Raises:
            InputError: the picture is damaged.
            MachineError: pyvips is missing, the picture cannot be read by rows, or the disk is full.
            EngineError: the backend failed.
        """
        if output is None:
            self._to_standard_output(engine, on_part, overlap)
            return
        with replacing(output) as temporary, temporary.open("r+b") as stream:
            self._write(engine, stream, output.parent, on_part, overlap)

    def _write(self, engine: Engine, stream: BinaryIO, folder: Path, on_part: Callable[[float], None], overlap: bool) -> None:
        with closing(upright_rows(self.head, folder, allow_truncated=self.allow_truncated)) as source:
            shape = (*self.size[::-1], self.head.channels)
            writer = WRITERS[self.saving.format](stream, shape, source.dtype, self.saving)
            with closing(enlarged_rows(engine, source, self.scale, overlap=overlap)) as parts:
                for part, rows in parts:
                    writer.write(rows)
                    on_part(part)
            writer.close()
            stream.flush()

    def _to_standard_output(self, engine: Engine, on_part: Callable[[float], None], overlap: bool) -> None:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(prefix="sr-", dir=folder) as stream:
            self._write(engine, stream, folder, on_part, overlap)
            stream.seek(0)
            while content := stream.read(CHUNK):
                write_standard_output(content)


@dataclass(frozen=True)
class Memory:
    """How many bytes a picture may take, and how the engine cuts it."""

    budget: int
    card: ModelCard

    def large(self, path: Path, output: Path, scale: int, saving: Saving | None = None) -> LargePicture | None:
        """Return how a picture is enlarged by rows, or ``None`` where it fits into the memory or is no picture at all.

        Args:
            path: of the picture; its header is read.
            output: of the result, whose suffix is the format; ``STDOUT`` gets a PNG.
            scale: the factor.
            saving: what is asked of the result's file; profile and EXIF come from the picture.

        Raises:
            MachineError: it does not fit, and cannot be enlarged by rows: pyvips is missing, or even that takes too much.
            InputError: it does not fit, and the result's format cannot be written by rows or cannot hold it.
        """
        try:
            head = head_of(path)
        except (InputError, OSError):
            return None  # told where it is decoded
        need = in_memory_bytes(head, self.card, scale)
        if need <= self.budget:
            return None
        if importlib.util.find_spec("pyvips") is None:
            raise MachineError(
                f"{self._told(head, need)}; pip install 'sr-deploy[large]' enlarges it by rows, or cut it into parts"
            )
        least = by_rows_bytes(head, self.card, scale)
        if least > self.budget:
            raise MachineError(
                f"{self._told(head, need)}, and {in_words(least)} by rows; allow more with --memory, or cut it into parts"
            )
        if not head.plain:
            raise MachineError(unreadable(head))
        asked = saving or Saving("PNG" if output == STDOUT else format_of(output))
        asked = replace(asked, icc_profile=head.icc_profile, exif=head.exif)
        found = LargePicture(head, scale, asked)
        check_holds(asked, (*found.size[::-1], head.channels), np.dtype(f"u{head.depth}"), output)
        return found

    def _told(self, head: Head, need: int) -> str:
        h, w, _ = head.shape
        return (
            f"{head.path}: {w}x{h} pixels take {in_words(need)} of memory with their result, {in_words(self.budget)} may be used"
        )


def in_memory_bytes(head: Head, card: ModelCard, scale: int) -> int:
    """Return an upper bound of the memory that a picture takes with its result and the file of it, a PNG of noise at worst."""
    # While it is decoded it is there twice; the result, in memory and encoded, comes later.
    return head.nbytes * max(2, 1 + 2 * scale**2) + band_bytes(head, card, scale)


def by_rows_bytes(head: Head, card: ModelCard, scale: int) -> int:
    """Return an upper bound of the memory that a picture takes by rows, which grows with its width."""
    return band_bytes(head, card, scale)


def band_bytes(head: Head, card: ModelCard, scale: int) -> int:
    """Return about what one band of tiles takes on its way, and the program itself."""
    grid = grid_of(card)
    assert card.input_shape is not None
    w, c = head.shape[1], head.channels
    before = scale if card.upscale == "before" else 1
    across = len(spans(max(w * before, grid.width), grid.width, grid.halo))
    tiles = 4 * across * card.input_shape[1] * grid.height * grid.width * (1 + grid.factor**2)
    made = 4 * grid.height * grid.factor * w * scale * max(c, 3 if card.color == "rgb" else 1)
    return int(PROGRAM_BYTES + TILE_COPIES * tiles + RESULT_FLOATS / 3 * made)

"""How much memory a picture takes on its way through an engine, from its header: whole, and by rows."""

from __future__ import annotations

from sr_deploy.card import ModelCard
from sr_deploy.runtime.pictures.head import Head
from sr_deploy.runtime.upscaling.tiling import grid_of, spans

PROGRAM_BYTES = 150 * 2**20  # Python, its libraries and a small engine
TILE_COPIES = 2.5  # of a band's tiles, in and out: those that wait, the engine's, and the joined rows
RESULT_FLOATS = 20  # float32 numbers that colour and encoding hold for each pixel of a band's result, measured; of grey a third


def in_memory_bytes(head: Head, card: ModelCard, scale: int) -> int:
    """Return an upper bound of what a picture takes with its result and the file of it, which is of noise at worst."""
    file = head.path.stat().st_size
    # While it is decoded it is there twice, with the file; the result, and its file, come later.
    return file + head.nbytes * max(2, 1 + 2 * scale**2) + band_bytes(head, card, scale)


def band_bytes(head: Head, card: ModelCard, scale: int) -> int:
    """Return about what one band of tiles takes on its way, and the program itself: it grows with the picture's width."""
    grid = grid_of(card)
    assert card.input_shape is not None
    _, width, channels = head.shape
    before = scale if card.upscale == "before" else 1
    across = len(spans(width * before, grid.width, grid.halo))
    tiles = 4 * across * card.input_shape[1] * grid.height * grid.width * (1 + grid.factor**2)
    rows = 4 * grid.height * grid.factor * width * scale
    floats = RESULT_FLOATS / (1 if channels >= 3 else 3)
    return int(PROGRAM_BYTES + TILE_COPIES * tiles + floats * rows)

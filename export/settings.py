"""The options of an export with what was not given filled in from the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sr_deploy.card import ModelCard, Shape
from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.export.calibration.learned import Learned
from sr_deploy.export.options import ExportOptions

# A residual stream carries the picture's brightness, which clipping shifts: see docs/models.md.
DEFAULT_METHOD: dict[Upscale, str] = {"before": "mse", "inside": "minmax"}
MOST_SIDE, MOST_PIXELS = 16384, 2**26


@dataclass(frozen=True)
class Settings:
    """What one export does; nothing is left open."""

    shape: Shape  # of the graph's input, (n, c, h, w)
    scale: int
    method: str
    refine: bool
    correct_bias: bool

    @property
    def refinements(self) -> tuple[str, ...]:
        """What is done to thresholds beyond the method, in the words of ``Calibration``."""
        asked = (("refined", self.refine), ("bias corrected", self.correct_bias))
        return tuple(name for name, wanted in asked if wanted)


def settings_for(checkpoint: Path, card: ModelCard, learned: Learned | None, options: ExportOptions) -> Settings:
    """Return what ``options`` ask for of a checkpoint.

    Raises:
        InputError: something that this checkpoint does not have.
    """
    for option, value in (("--refine", options.refine), ("--correct-bias", options.correct_bias)):
        if value is not None and (options.thresholds is not None or learned is not None):
            source = options.thresholds or f"{checkpoint}, which learned them,"
            raise InputError(f"{option}: the thresholds of {source} are used as they are; leave it out")
    scale = card.default_scale if options.scale is None else options.scale
    if scale not in card.scales:
        raise InputError(f"--scale {scale}: {checkpoint} serves {', '.join(map(str, card.scales))}; choose one of them")
    best = options.method is None  # a method that is named comes plain, unless more is asked for
    return Settings(
        shape=shape_for(card, options.shape),
        scale=scale,
        method=options.method or DEFAULT_METHOD[card.upscale],
        refine=best if options.refine is None else options.refine,
        correct_bias=best if options.correct_bias is None else options.correct_bias,
    )


def shape_for(card: ModelCard, asked: Shape | None) -> Shape:
    """Return the input shape of the graph.

    Raises:
        InputError: larger than a tile may be, or of other channels than the network takes.
    """
    channels = 1 if card.color == "y" else 3
    n, c, h, w = asked or (1, channels, 256, 256)
    if max(n, c, h, w) > MOST_SIDE or n * h * w > MOST_PIXELS:
        raise InputError(
            f"--shape {n} {c} {h} {w}: larger than a tile may be ({MOST_SIDE} a side, {MOST_PIXELS:,} pixels in all); "
            "pictures of any size go through in tiles, 256 256 is usual"
        )
    if min(n, c, h, w) < 1 or c != channels:
        raise InputError(
            f"--shape {n} {c} {h} {w}: this network takes {channels} channel(s) and sides of at least 1, as 1 {channels} 256 256"
        )
    return n, c, h, w


def check_halo(shape: Shape, halo: int) -> None:
    """Check that tiles of ``shape`` have pixels that see no border.

    Raises:
        InputError: they have none.
    """
    if min(shape[2:]) <= 2 * halo:
        raise InputError(
            f"--shape {' '.join(map(str, shape))}: not larger than twice the halo of {halo} pixels; {2 * halo + 1} is the least"
        )

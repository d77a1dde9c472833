"""What an export may be asked for. Light to import: the command line is read before anything heavy is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sr_deploy.errors import InputError
from sr_deploy.options import check_choice, check_positive, check_threads, check_types

if TYPE_CHECKING:
    from sr_deploy.card import Precision, Shape

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
METHODS = ("kl-weighted", "kl", "minmax", "percentile", "mse")


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint becomes graphs; where ``None`` is the default, it may depend on the checkpoint."""

    output: Path  # folder for the graphs
    precisions: tuple[Precision, ...] = PRECISIONS
    shape: Shape | None = None  # of the input, (n, c, h, w); None: 1, c, 256, 256
    scale: int | None = None  # to calibrate for, and to take out of an MDSR; None: all that are served, of an MDSR its default
    calib: Path | None = None  # photographs to calibrate on; None: those of the project
    calib_tiles: int = 48  # at most
    method: str | None = None  # of METHODS; None: mse, or minmax for networks that enlarge inside
    refine: bool | None = None  # each threshold, by what it does to the output; None: unless a method is named
    correct_bias: bool | None = None  # subtract the mean shift that quantization adds; None: unless a method is named
    thresholds: Path | None = None  # use those of this file instead of calibrating
    keep: tuple[str, ...] = ()  # convolutions that stay out of int8 beside the first and the last
    all_layers: bool = False  # the first and the last in int8 too
    max_drop_db: float | None = None  # PSNR that int8 may lose at any scale; None: what ``budget`` says, or no accuracy guard
    budget: Path | None = None  # in TOML, as of sr-gate: what else int8 may lose; None: the project's
    sensitivity: bool = False  # measure what each layer alone in int8 costs
    select: Path | None = None  # photographs to measure on; None: those of the project
    select_tiles: int = 12  # at most, a scale
    threads: int | None = None  # of the CPU; None: as many as it has cores

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value cannot be, or does not fit the others."""
        check_types(self)
        for precision in self.precisions:
            check_choice("precisions", precision, PRECISIONS)
        check_choice("method", self.method, METHODS)
        check_positive(
            scale=self.scale, calib_tiles=self.calib_tiles, select_tiles=self.select_tiles, max_drop_db=self.max_drop_db
        )
        check_threads(self.threads)
        if self.select is not None and not self.measures:
            raise InputError(f"--select {self.select}: nothing is measured on it; add --max-drop DB or --sensitivity")
        if self.guarded and "int8" not in self.precisions:
            asked = f"--budget {self.budget}" if self.max_drop_db is None else f"--max-drop {self.max_drop_db:g}"
            raise InputError(f"{asked}: the accuracy guard is for int8; add int8 to --precision")

    @property
    def guarded(self) -> bool:
        """Whether the accuracy guard decides what is int8."""
        return self.max_drop_db is not None or self.budget is not None

    @property
    def measures(self) -> bool:
        """Whether anything is measured on photographs with their originals."""
        return self.guarded or self.sensitivity

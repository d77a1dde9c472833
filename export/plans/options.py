"""What a build of plans may be asked for. Light to import: the command line is read before anything heavy is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.options import check_choice, check_positive, check_types

HARDEST = 5  # level of optimization


@dataclass(frozen=True)
class BuildOptions:
    """How graphs become TensorRT plans."""

    output: Path | None = None  # folder for the plans; None: beside each graph
    batches: tuple[int, ...] = (1,)  # tiles at once; several: one optimization profile each
    opt_level: int | None = None  # 0 to 5, how long to search; None: TensorRT's own, 3
    hardware_compatible: bool = False  # for every GPU from Ampere on
    version_compatible: bool = False  # for later TensorRT of the same major version
    timing_cache: Path | None = None  # folder of measured kernels; None: every kernel is measured again
    calibrator: Literal["native"] | None = None  # TensorRT's own calibration makes int8 plans of fp32 graphs
    calib: Path | None = None  # photographs for it; None: those of the project
    force: bool = False  # build again what is up to date

    def __post_init__(self) -> None:
        """Raise ``InputError`` where a value cannot be, or does not fit the others."""
        check_types(self)
        if not self.batches:
            raise InputError("batches=(): no number of tiles; name one or several")
        check_positive(batches=min(self.batches))
        if self.opt_level is not None and not 0 <= self.opt_level <= HARDEST:
            raise InputError(f"opt_level={self.opt_level}: not within 0 to {HARDEST}; leave it out for TensorRT's own")
        check_choice("calibrator", self.calibrator, ("native",))
        if self.calibrator == "native" and self.batches != (1,):
            raise InputError(f"--batch {' '.join(map(str, self.batches))}: --calibrator native builds for one tile at once")

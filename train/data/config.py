"""What is cut from which pictures: the settings of the training data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sr_deploy.degrade import Upscale
from sr_deploy.errors import InputError
from sr_deploy.train.data.damage import DAMAGES

MOST_PATCH = 4096


@dataclass(frozen=True)
class DataConfig:
    """What is cut from which pictures."""

    folders: tuple[Path, ...]
    scales: tuple[int, ...] = (2, 3, 4)
    patch: int = 41  # pixels, of the enlarged picture; 41 in the paper; see ``side``
    shrink: tuple[float, ...] = (1.0, 0.7)  # each picture is used at these sizes
    detail: float = 0.0  # patches are drawn in proportion to (mean squared bicubic error) ** detail; 0 is uniform
    upscale: Upscale = "before"  # inside: the low-resolution patch goes in, not its enlargement
    colors: int = 1  # 1: luma, 3: RGB
    one_scale: bool = False  # every patch of a batch has the same scale (MDSR, Lim et al., CVPRW 2017, section 3.3)
    lr: Path | None = None  # folder of the low-resolution pictures; None: they are made by bicubic
    span: tuple[int, int] | None = None  # first and last picture used, in their order, counted from 1; None: all
    degrade: tuple[str, ...] = ()  # how half of the low-resolution patches are damaged, kinds of ``damage.DAMAGES``

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < 2 or max(self.scales) > 8:
            raise InputError(f"scales {self.scales} do not fit; use integers from 2 to 8")
        if not self.shrink or not all(0.05 <= factor <= 1.0 for factor in self.shrink):
            raise InputError(f"down-scaling factors {self.shrink} do not fit; use numbers from 0.05 to 1 (--shrink)")
        if not 0.0 <= self.detail <= 8.0:
            raise InputError(f"--detail {self.detail} is not a number from 0 to 8; 0 draws patches uniformly")
        if not 1 <= self.patch <= MOST_PATCH:
            raise InputError(f"--patch {self.patch} is not in 1 to {MOST_PATCH}; 41 is usual")
        if self.colors not in (1, 3):
            raise InputError(f"{self.colors} colours do not fit; 1 is luma, 3 is RGB (--color)")
        if self.lr is not None and self.shrink != (1.0,):
            factors = " ".join(f"{factor:g}" for factor in self.shrink)
            raise InputError(f"--shrink {factors}: pairs of --lr-dir {self.lr} are used as they are; leave --shrink out")
        self._check_degrade()
        self._check_patch()

    def _check_degrade(self) -> None:
        kinds = " ".join(self.degrade)
        if not set(self.degrade) <= set(DAMAGES):
            raise InputError(f"--degrade {kinds}: not all known; choose among {', '.join(DAMAGES)}")
        if self.degrade and self.upscale == "before":
            raise InputError(
                f"--degrade {kinds}: damages low-resolution patches, which networks that enlarge inside read, this one enlarges "
                "before; choose another --arch, as plain or edsr, or leave it out"
            )

    def _check_patch(self) -> None:
        if self.upscale == "before" or self.one_scale:
            return
        if len(set(self.scales)) > 1:  # a tensor cannot hold low-resolution patches of several sizes
            raise InputError(f"scales {self.scales} do not fit into one batch where the network enlarges; draw one scale a batch")
        for scale in self.scales:
            if self.patch % scale:
                raise InputError(f"--patch {self.patch} is no multiple of the scale {scale}; {48 * scale} is usual")

    def side(self, scale: int) -> int:
        """Return the side of an original patch at ``scale``, in pixels.

        That is ``patch``, except where the network enlarges and a batch has one scale: then ``patch`` is the side of the
        *low-resolution* patch, the same for every scale, as in the paper, and the original is ``scale`` times as large.
        """
        return self.patch * scale if self.one_scale and self.upscale == "inside" else self.patch

    def step(self, scale: int) -> int:
        """Return how many pixels of the original one pixel of the degraded picture stands for."""
        return scale if self.upscale == "inside" else 1

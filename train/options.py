"""What ``sr-train`` and :func:`sr_deploy.train.train` can be asked for: frozen values, checked when they are made.

``None`` stands for the default. Where that is the paper's, it is in ``PAPERS``. Nothing heavy is imported, so that ``--help``
answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.options import check_choices, check_natural, check_positive, check_threads, check_types
from sr_deploy.train.recipe_ranges import check_recipe

Arch = Literal["plain", "vdsr", "edsr", "mdsr", "srresnet", "srgan"]
Damage = Literal["blur", "noise", "jpeg"]
ARCHS: tuple[Arch, ...] = ("plain", "vdsr", "edsr", "mdsr", "srresnet", "srgan")
DAMAGES: tuple[Damage, ...] = ("blur", "noise", "jpeg")  # as in train/data/damage.py
PRESETS: dict[str, dict[str, dict[str, float]]] = {
    "edsr": {"baseline": {"blocks": 16, "features": 64}, "large": {"blocks": 32, "features": 256, "res_scale": 0.1}},
    "plain": {"m": {"blocks": 6, "features": 32}, "l": {"blocks": 7, "features": 48}, "xl": {"blocks": 10, "features": 64}},
    "mdsr": {"baseline": {"blocks": 16, "features": 64}, "large": {"blocks": 80, "features": 64}},
}
NO_RES_SCALE = ("plain", "srresnet", "srgan")


@dataclass(frozen=True, kw_only=True)
class CheckedOptions:
    """Options of which every field holds what its type says."""

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What papers differ in; the defaults are VDSR's (CVPR 2016, section 5.2)."""

    scale: tuple[int, ...] = (2, 3, 4)
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    weight_decay: float = 1e-4
    schedule: Literal["step", "halve", "drop", "cosine"] = "step"
    warmup: int = 0
    clip_mode: Literal["value", "norm", "none"] = "value"
    loss: str = "mse"
    ema: float | None = None
    expand: int = 0


ADAM = Settings(optimizer="adam", lr=1e-4, weight_decay=0.0, clip_mode="none", schedule="halve", batch_size=16)
PAPERS: dict[Arch, Settings] = {
    "plain": replace(ADAM, loss="l1", scale=(2,), lr=2e-3, schedule="cosine", warmup=100, ema=0.999, expand=4),
    "vdsr": Settings(),
    "edsr": replace(ADAM, loss="l1", scale=(2,)),
    "mdsr": replace(ADAM, loss="l1"),
    "srresnet": replace(ADAM, scale=(4,)),
    "srgan": replace(ADAM, scale=(4,), loss="0.006*VGG54+0.001*GAN", schedule="drop"),
}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(CheckedOptions):
    """Which network."""

    arch: Arch = "vdsr"
    width: int | None = None  # filters of every inner convolution
    preset: str | None = None
    blocks: int | None = None
    res_scale: float | None = None
    color: Literal["y", "rgb"] = "y"
    scale: tuple[int, ...] | None = None  # one named twice is drawn twice as often

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(width=self.width, blocks=self.blocks, res_scale=self.res_scale)
        if self.preset is not None and self.preset not in PRESETS.get(self.arch, {}):
            known = "; ".join(f"{arch}: {', '.join(names)}" for arch, names in PRESETS.items())
            raise InputError(f"--preset {self.preset}: not known for {self.arch} ({known})")
        if self.arch == "vdsr":
            for option, value in (("--blocks", self.blocks), ("--res-scale", self.res_scale)):
                if value is not None:
                    raise InputError(f"{option} {value:g}: VDSR has no residual blocks; leave it out, or choose --arch edsr")
        elif self.arch in NO_RES_SCALE and self.res_scale is not None:
            raise InputError(f"--res-scale {self.res_scale:g}: {self.arch} does not scale its residuals; leave it out")
        if self.arch not in ("vdsr", "mdsr") and len(set(self.scales)) != 1:
            shown = " ".join(map(str, self.scales))
            raise InputError(f"--scale {shown}: {self.arch} serves one scale; train one for each, or choose --arch mdsr")

    @property
    def scales(self) -> tuple[int, ...]:
        """The factors that are trained, as often as they are drawn."""
        return PAPERS[self.arch].scale if self.scale is None else self.scale


@dataclass(frozen=True, kw_only=True)
class PatchOptions(CheckedOptions):
    """What is cut from which pictures."""

    data: tuple[Path, ...] = ()  # folders of high-resolution pictures, or HDF5 files of patches
    patch: int | None = None
    shrink: tuple[float, ...] | None = None  # sizes each picture is used at
    detail: float | None = None  # patches are drawn by (bicubic error) ** detail; 0: uniform
    degrade: tuple[Damage, ...] | None = None  # what half of the low-resolution patches are damaged by
    cache: Path | None = None  # folder that decoded pictures are kept in; None: memory
    workers: int = 1  # threads that prepare batches, in each process

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(patch=self.patch)
        check_natural(detail=self.detail, workers=self.workers)

    def for_pictures(self) -> Mapping[str, object]:
        """Return what is given that HDF5 files do not take, by option."""
        return {"--shrink": self.shrink, "--detail": self.detail, "--degrade": self.degrade, "--cache": self.cache}


@dataclass(frozen=True, kw_only=True)
class DataOptions(PatchOptions):
    """What is cut from which pictures, and which low-resolution ones belong to them."""

    lr_dir: Path | None = None  # None: they are made by bicubic
    range: str | None = None  # positions of the pictures, as 1-800, or 1-800/801-810

    def for_pictures(self) -> Mapping[str, object]:
        """Return what is given that HDF5 files do not take, by option."""
        return {"--lr-dir": self.lr_dir, "--range": self.range, **super().for_pictures()}


@dataclass(frozen=True, kw_only=True)
class LossOptions(CheckedOptions):
    """What is minimised."""

    loss: str | None = None
    gan_loss: Literal["bce", "lsgan"] | None = None
    content: Literal["vgg", "random-vgg", "pixel"] | None = None
    vgg: Path | None = None  # torchvision's weights; None: downloaded once
    vgg_distance: Literal["mse", "l1"] | None = None


@dataclass(frozen=True, kw_only=True)
class MachineOptions(CheckedOptions):
    """Where it is computed, and what is kept meanwhile."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1  # GPUs, or processes on the CPU
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    threads: int | None = None  # None: all cores, shared by all processes
    save_minutes: float = 5.0  # between checkpoints
    log_dir: Path | None = None  # of TensorBoard

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threads(self.threads)
        check_positive(devices=self.devices, save_minutes=self.save_minutes)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(LossOptions, MachineOptions):
    """How a network is trained, and where."""

    minutes: float | None = None
    batch_size: int | None = None  # patches at once in each process
    accumulate: int = 1  # batches of a step
    optimizer: Literal["sgd", "adam"] | None = None
    lr: float | None = None
    schedule: Literal["step", "halve", "drop", "cosine"] | None = None
    lr_step: float = 20.0  # step: epochs
    lr_half: int = 200_000  # halve: steps
    warmup: int | None = None  # steps
    momentum: float = 0.9  # Adam: beta1
    weight_decay: float | None = None
    clip_mode: Literal["value", "norm", "none"] | None = None
    clip: float | None = None
    ema: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_recipe(vars(self))

    def settle(self, paper: Settings) -> Settings:
        """Return what the options say, and what ``paper`` says where they say nothing."""
        said = {field.name: getattr(self, field.name, None) for field in fields(paper)}
        return replace(paper, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class TrainOptions(NetworkOptions, DataOptions, RecipeOptions):
    """Everything about a training run."""

    output: Path
    val: Path | None = None
    init_from: Path | None = None
    resume: bool = False
    overwrite: bool = False
    steps: int | None = None
    epochs: float | None = None  # None: 80, unless there are steps or minutes
    expand: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_natural(expand=self.expand)
        if self.resume and self.init_from is not None:
            raise InputError(f"--init-from {self.init_from}: a resumed run has its weights already; leave it or --resume out")

    @property
    def settings(self) -> Settings:
        """What the options say, and what the network's paper says where they say nothing."""
        return self.settle(PAPERS[self.arch])


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(NetworkOptions, DataOptions):
    """Which patches are written to an HDF5 file."""

    output: Path
    stride: int | None = None  # pixels between patches; None: the patch
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(stride=self.stride)
        if self.degrade:
            raise InputError(f"--degrade {' '.join(self.degrade)}: patches are damaged when they are drawn; leave it out")

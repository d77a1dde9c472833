"""What ``sr-prune`` and :func:`sr_deploy.compress.prune` can be asked for: a frozen value, checked when it is made.

``None`` stands for the default, which is mostly what the dense network was trained with. Nothing heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.options import check_natural, check_positive
from sr_deploy.train.options import CheckedOptions, PatchOptions, RecipeOptions, Settings

FEATURES = ("features", "both")
FINETUNING = Settings(batch_size=16, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine", warmup=20, clip_mode="norm")


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(CheckedOptions):
    """What is learned from the dense network, or another one."""

    distill: Literal["none", "output", "features", "both"] = "none"
    distill_weight: float | None = None  # of the teacher; None: 0.5
    distill_layers: tuple[str, ...] | None = None  # convolutions whose input is compared
    teacher: Path | None = None  # None: the dense network

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(distill_weight=self.distill_weight)


@dataclass(frozen=True, kw_only=True)
class QatOptions(CheckedOptions):
    """Quantization-aware training."""

    qat: bool = False
    qat_steps: int | None = None  # None: 300
    qat_lr: float | None = None  # falling to 0; None: 1e-4
    qat_teacher_weight: float | None = None
    qat_method: Literal["kl-weighted", "kl", "minmax", "percentile", "mse"] | None = None
    keep: tuple[str, ...] = ()  # more convolutions that stay in float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(qat_steps=self.qat_steps, qat_lr=self.qat_lr)
        check_natural(qat_teacher_weight=self.qat_teacher_weight)


@dataclass(frozen=True, kw_only=True)
class PruneOptions(PatchOptions, TeacherOptions, QatOptions, RecipeOptions):
    """Everything about one pruning: how much, how it is won back, where it goes."""

    output: Path
    sparsity: float | None = None  # None: 0.5, unless there is a config or a budget
    config: Path | None = None  # JSON with an NNI config_list
    target_macs: float | None = None  # share of the multiplications that is left
    round_to: Literal[8, 16, 32, 64] | None = None  # channels are kept in multiples of it
    criterion: Literal["l1", "taylor", "activation"] = "l1"
    rounds: int = 1
    reconstruct: int = 256  # patches that the layers that are left are solved on to reproduce the dense network; 0: they are not
    pruner: Literal["auto", "nni", "native"] = "auto"
    shape: tuple[int, ...] | None = None  # that MACs are counted at
    finetune_steps: int | None = None
    val: Path | None = None  # None: parts of the photographs that come with the project
    max_drop: float | None = None  # dB that may be lost against the dense network, at the worst scale; None: any
    scale: tuple[int, ...] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(rounds=self.rounds)
        check_natural(finetune_steps=self.finetune_steps, reconstruct=self.reconstruct)
        self._check_amount()
        self._check_pictures()
        self._check_teacher()
        self._check_qat()

    def _check_amount(self) -> None:
        amounts = {"--sparsity": self.sparsity, "--config": self.config, "--target-macs": self.target_macs}
        given = [f"{option} {value}" for option, value in amounts.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)}: both say how much is removed; leave one of them out")
        if self.sparsity is not None and not 0.0 <= self.sparsity < 1.0:
            raise InputError(f"--sparsity {self.sparsity} is not in [0, 1); 0.5 halves every convolution")
        if self.target_macs is not None and not 0.0 < self.target_macs < 1.0:
            raise InputError(
                f"--target-macs {self.target_macs} is not between 0 and 1; 0.25 keeps a quarter of the multiplications"
            )
        for option, value in (("--rounds", self.rounds), ("--round-to", self.round_to)):
            if self.config is not None and value not in (None, 1):
                raise InputError(f"{option} {value}: --config {self.config} says itself what is removed; leave one of them out")
        if self.config is not None and (self.criterion != "l1" or self.pruner == "native"):
            other = "--pruner native" if self.criterion == "l1" else f"--criterion {self.criterion}"
            raise InputError(f"{other}: --config {self.config} is NNI's, by L1 norm; leave one of them out")
        if self.criterion != "l1" and self.pruner == "nni":
            raise InputError("--pruner nni: makes the masks of --criterion l1; leave one of them out")
        if self.max_drop is not None and not 0.0 <= self.max_drop < math.inf:
            raise InputError(f"--max-drop {self.max_drop:g} is not a number of dB of at least 0; 0.2 is usual")
        steps = self.finetune_steps or 0
        if self.rounds > 1 and steps < self.rounds:
            raise InputError(
                f"--rounds {self.rounds}: each ends with fine-tuning, there are {steps} steps; give more --finetune-steps"
            )

    def _check_pictures(self) -> None:
        if self.target_macs is not None and not (self.data or self.val):
            raise InputError(f"--target-macs {self.target_macs} measures layers on pictures; name a folder with --data or --val")
        if self.criterion != "l1" and not (self.data or self.val):
            raise InputError(f"--criterion {self.criterion} measures filters on pictures; name a folder with --data or --val")
        measures = self.target_macs is not None or self.criterion != "l1" or self.reconstruct
        if self.data and self.finetune_steps is None and not self.qat and not measures:
            raise InputError(
                f"--data {self.data[0]}: nothing would be trained on it; say how long with --finetune-steps N, or add --qat"
            )
        if self.finetune_steps and not self.data:
            raise InputError(f"--finetune-steps {self.finetune_steps} needs pictures; name a folder with --data")

    def _check_teacher(self) -> None:
        what, weight = self.distill, self.distill_weight
        given: Mapping[str, object] = {
            "--teacher": self.teacher,
            "--distill-weight": weight,
            "--distill-layers": " ".join(self.distill_layers or ()) or None,
        }
        for option, value in given.items():
            if what == "none" and value is not None:
                raise InputError(f"{option} {value}: nothing is learnt from a teacher; add --distill output, features or both")
        if what != "none" and not self.finetune_steps:
            raise InputError(f"--distill {what}: a part of fine-tuning; give --finetune-steps and --data")
        if weight is not None and weight > 1.0:
            raise InputError(f"--distill-weight {weight:g} is above 1, where the originals count nothing; 0.5 is usual")
        if what == "output" and self.distill_layers:
            raise InputError(
                f"--distill-layers {self.distill_layers[0]}: --distill output compares none; choose features or both"
            )
        if what in FEATURES and self.teacher is not None:
            raise InputError(
                f"--teacher {self.teacher}: its channels are not those of the pruned network; "
                "leave it out, or choose --distill output"
            )
        if what in FEATURES and self.compile:
            raise InputError(f"--compile: not with --distill {what}, which reads its layers; leave it out, or choose output")

    def _check_qat(self) -> None:
        if self.qat and not self.data:
            raise InputError("--qat needs pictures; name a folder with --data")
        if self.qat and not self.finetune_steps and self.lr not in (None, FINETUNING.lr):
            raise InputError(f"--lr {self.lr:g} is the rate of fine-tuning, and there is none; --qat-lr is that of --qat")
        given: Mapping[str, object] = {
            "--qat-steps": self.qat_steps,
            "--qat-lr": self.qat_lr,
            "--qat-teacher-weight": self.qat_teacher_weight,
            "--qat-method": self.qat_method,
            "--keep": " ".join(self.keep) or None,
        }
        for option, value in given.items():
            if value is not None and not self.qat:
                raise InputError(f"{option} {value} belongs to --qat; add --qat, or leave it out")

"""The training recipe; the defaults are VDSR's (CVPR 2016, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sr_deploy.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The length is the first of ``steps``, ``epochs`` and ``minutes`` to be reached."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9  # Adam: beta1
    weight_decay: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    lr_step: float = 20.0  # epochs between divisions of the learning rate by 10
    warmup: int = 0  # steps of linear warm-up
    clip_mode: Literal["value", "norm", "none"] = "value"
    clip: float = 0.01  # theta: gradients are cut to +-theta / lr, or their norm to theta
    loss: Literal["mse", "l1"] = "mse"  # mse: half the squared error summed over pixels, as in the paper
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.minutes is None:
            raise InputError("training has no length; give --steps, --epochs or --minutes")
        for name in ("steps", "epochs", "minutes", "batch_size", "lr", "lr_step", "clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} is not above 0")

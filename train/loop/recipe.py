"""The training recipe; the defaults are VDSR's (CVPR 2016, section 5.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.train.losses.expression import terms_of

SANE = {
    "batch_size": (1, 65536),
    "accumulate": (1, 4096),
    "lr": (1e-12, 1e3),
    "clip": (1e-12, 1e9),
    "weight_decay": (0.0, 1e3),
}  # float32 holds them

MOST_EXPAND = 64


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The length is the first of ``steps``, ``epochs`` and ``minutes`` to be reached."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_size: int = 64  # patches that go through the network at once, in each process
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9  # Adam: beta1
    weight_decay: float = 1e-4
    schedule: Literal["step", "halve", "drop", "cosine"] = "step"  # drop: a tenth in the second half, as SRGAN
    lr_step: float = 20.0  # step: epochs between divisions of the learning rate by 10
    lr_half: int = 200_000  # halve: steps between halvings of the learning rate
    warmup: int = 0  # steps of linear warm-up
    clip_mode: Literal["value", "norm", "none"] = "value"
    clip: float = 3e-4  # theta: gradients are cut to +-theta / lr, or their norm to theta; the paper gives no value
    loss: str = "mse"  # mse: half the squared error summed over pixels, as in the paper; or a sum of weighted terms
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: int = 1  # micro-batches of batch_size patches in a step, of each process
    gan_loss: Literal["bce", "lsgan"] | None = None  # of a GAN term: the non-saturating form (also None), or least squares
    content: str | None = None  # where the terms of VGG19 come from
    expand: int | None = None  # how many times wider each kernel is in training
    ema: float | None = None  # decay of the moving average of the weights; none is kept without

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.minutes is None:
            raise InputError("training has no length; give --steps, --epochs or --minutes")
        for name in ("steps", "epochs", "minutes", "batch_size", "lr", "lr_step", "lr_half", "clip", "accumulate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} {value} is not above 0")
        for name, (least, most) in SANE.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"--{name.replace('_', '-')} {value} is not in {least:g} to {most:g}")
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"--momentum {self.momentum} is not in [0, 1); 0.9 is usual")
        if not 0.0 <= self.weight_decay < math.inf:
            raise InputError(f"--weight-decay {self.weight_decay} is not a number of at least 0; 1e-4 is usual")
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise InputError(f"--ema {self.ema} is not between 0 and 1; 0.999 is usual")
        if self.expand is not None and not 1 <= self.expand <= MOST_EXPAND:
            raise InputError(f"--expand {self.expand} is not in 1 to {MOST_EXPAND}; 4 is usual, 0 trains the kernels as they are")
        if self.warmup < 0:
            raise InputError(f"--warmup {self.warmup} is below 0; 0 leaves it out")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed {self.seed} is not in 0 to 2**63 - 1")
        terms_of(self.loss)

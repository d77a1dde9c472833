"""The training recipe; the defaults are VDSR's (CVPR 2016, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.train.losses.expression import terms_of
from sr_deploy.train.recipe_ranges import check_recipe

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
        check_recipe(vars(self))
        if self.expand is not None and not 1 <= self.expand <= MOST_EXPAND:
            raise InputError(f"--expand {self.expand} is not in 1 to {MOST_EXPAND}; 4 is usual, 0 trains the kernels as they are")
        terms_of(self.loss)

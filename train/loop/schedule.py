"""How far a run has come, and which learning rate belongs there."""

from __future__ import annotations

import math

from sr_deploy.train.loop.recipe import Recipe


def fraction_done(recipe: Recipe, step: int, elapsed_s: float, steps_per_epoch: int) -> float:
    """Return the part of the run that is done; at 1 and above it ends. The first of the recipe's lengths decides."""
    fractions = [0.0]
    if recipe.steps is not None:
        fractions.append(step / recipe.steps)
    if recipe.epochs is not None:
        fractions.append(step / (recipe.epochs * steps_per_epoch))
    if recipe.minutes is not None:
        fractions.append(elapsed_s / (60.0 * recipe.minutes))
    return max(fractions)


def learning_rate(recipe: Recipe, step: int, fraction: float, steps_per_epoch: int) -> float:
    """Return the learning rate of ``step``; ``fraction`` is the part of the run that is done."""
    lr = recipe.lr
    if recipe.schedule == "step":
        lr *= 0.1 ** int(min(step / steps_per_epoch / recipe.lr_step, 400.0))  # 400: already zero
    elif recipe.schedule == "halve":
        lr *= 0.5 ** min(step // recipe.lr_half, 1000)
    elif recipe.schedule == "drop":
        lr *= 0.1 if fraction >= 0.5 else 1.0
    else:
        lr *= 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))
    return lr * min(1.0, (step + 1) / (recipe.warmup + 1))

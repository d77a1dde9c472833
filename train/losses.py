"""Training losses."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def half_sum_of_squares(sr: Tensor, hr: Tensor) -> Tensor:
    """Return 1/2 of the squared error summed over pixels, averaged over the batch (VDSR, section 3.2).

    Not the mean over pixels: at the paper's learning rate of 0.1 a mean-reduced loss barely learns.
    """
    return (sr - hr).square().sum() / (2 * sr.shape[0])


def mean_absolute(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean absolute error over pixels and batch (EDSR, CVPRW 2017, section 3.2), in grey levels.

    It is less dominated by the patches that no network can restore, so a short training gets further with it.
    """
    return (sr - hr).abs().mean() * 255.0


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": half_sum_of_squares, "l1": mean_absolute}

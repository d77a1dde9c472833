"""Training losses."""

from __future__ import annotations

from torch import Tensor


def half_sum_of_squares(sr: Tensor, hr: Tensor) -> Tensor:
    """Return 1/2 of the squared error summed over pixels, averaged over the batch (VDSR, section 3.2).

    Not the mean over pixels: at the paper's learning rate of 0.1 a mean-reduced loss barely learns.
    """
    return (sr - hr).square().sum() / (2 * sr.shape[0])

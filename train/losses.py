"""Training losses, by name or as an expression of weighted terms: ``1*L1``, ``0.7*L1+0.3*MSE``, as EDSR's users write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from torch import Tensor

from sr_deploy.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
TERM = re.compile(r"(?:([0-9.eE+-]+?)\*)?([A-Za-z][A-Za-z0-9]*)")


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


def mean_squared(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean squared error over pixels and batch, in squared grey levels."""
    return (sr - hr).square().mean() * 255.0**2


NAMED: dict[str, Loss] = {"mse": half_sum_of_squares, "l1": mean_absolute}
TERMS: dict[str, Loss] = {"L1": mean_absolute, "MSE": mean_squared}


def loss_from(text: str) -> Loss:
    """Return the loss that ``text`` names: ``mse``, ``l1``, or terms with weights joined by ``+``.

    Raises:
        InputError: a term is unknown, or a weight is no number above 0.
    """
    if text in NAMED:
        return NAMED[text]
    terms: list[tuple[float, Loss]] = []
    for part in re.split(r"(?<![0-9.][eE])\+", text.replace(" ", "")):
        found = TERM.fullmatch(part)
        if found is None or found[2] not in TERMS:
            known = f"{', '.join(NAMED)}, or a sum of weighted terms such as 1*L1; terms: {', '.join(TERMS)}"
            raise InputError(f"--loss {text!r}: {part or 'an empty term'!r} is unknown; known: {known}")
        terms.append((_weight(found[1], text), TERMS[found[2]]))

    def total(sr: Tensor, hr: Tensor) -> Tensor:
        values = [weight * term(sr, hr) for weight, term in terms]
        return values[0] if len(values) == 1 else sum(values[1:], values[0])

    return total


def _weight(given: str | None, text: str) -> float:
    try:
        weight = 1.0 if given is None else float(given)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise InputError(f"--loss {text!r}: the weight {given} is no number above 0; 1*L1 is usual")
    return weight

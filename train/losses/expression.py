"""Training losses, by name or as an expression of weighted terms, as EDSR's users write them: ``1*MSE+0.006*VGG54+0.001*GAN``.

``L1`` and ``MSE`` compare pixels in [0, 1]; ``VGG22`` and ``VGG54`` compare what VGG19 sees in them (``train/losses/vgg.py``);
``GAN`` is what a discriminator says of the result (``train/loop/adversarial.py``). ``mse`` and ``l1`` are the losses of VDSR and
EDSR.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from torch import Tensor, nn

from sr_deploy.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
TERM = re.compile(r"(?:([0-9.eE+-]+?)\*)?([A-Za-z][A-Za-z0-9]*)")


def half_sum_of_squares(sr: Tensor, hr: Tensor) -> Tensor:
    """Return 1/2 of the squared error summed over pixels, averaged over the batch (VDSR, section 3.2).

    Not the mean over pixels: at the paper's learning rate of 0.1 a mean-reduced loss barely learns.
    """
    return (sr - hr).square().sum() / (2 * sr.shape[0])


def grey_levels(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean absolute error over pixels and batch (EDSR, CVPRW 2017, section 3.2), in grey levels.

    It is less dominated by the patches that no network can restore, so a short training gets further with it.
    """
    return (sr - hr).abs().mean() * 255.0


def mean_absolute(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean absolute error over pixels and batch of pictures in [0, 1]."""
    return (sr - hr).abs().mean()


def mean_squared(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean squared error over pixels and batch of pictures in [0, 1]."""
    return (sr - hr).square().mean()


NAMED: dict[str, Loss] = {"mse": half_sum_of_squares, "l1": grey_levels}
PIXEL_TERMS: dict[str, Loss] = {"L1": mean_absolute, "MSE": mean_squared}
FEATURE_TERMS = ("VGG22", "VGG54")
ADVERSARIAL = "GAN"
TERMS = (*PIXEL_TERMS, *FEATURE_TERMS, ADVERSARIAL)

Terms = tuple[tuple[str, float], ...]
"""Names of terms, or one name of ``NAMED``, with their weights."""


def terms_of(text: str) -> Terms:
    """Return what ``text`` names: ``mse``, ``l1``, or terms with weights joined by ``+``.

    Raises:
        InputError: a term is unknown or named twice, a weight is no number above 0, or there is nothing but ``GAN``.
    """
    if text in NAMED:
        return ((text, 1.0),)
    terms: dict[str, float] = {}
    for part in re.split(r"(?<![0-9.][eE])\+", text.replace(" ", "")):
        found = TERM.fullmatch(part)
        if found is None or found[2] not in TERMS:
            known = f"{', '.join(NAMED)}, or a sum of weighted terms such as 1*L1; terms: {', '.join(TERMS)}"
            raise InputError(f"--loss {text!r}: {part or 'an empty term'!r} is unknown; known: {known}")
        if found[2] in terms:
            raise InputError(f"--loss {text!r}: names {found[2]} twice; add its weights up")
        terms[found[2]] = _weight(found[1], text)
    if list(terms) == [ADVERSARIAL]:
        raise InputError(f"--loss {text!r}: nothing ties the result to the original; add a term such as 1*MSE")
    return tuple(terms.items())


def expression(terms: Terms) -> str:
    """Return the text that stands for ``terms``."""
    if terms[0][0] in NAMED:
        return terms[0][0]
    return "+".join(f"{_shortest(weight)}*{name}" for name, weight in terms)


def weight_of(text: str, term: str) -> float:
    """Return the weight of a term in an expression, 0 where it does not stand."""
    return dict(terms_of(text)).get(term, 0.0)


class Objective(nn.Module):
    """The terms of an expression that compare a result with its original; what a discriminator says is added elsewhere."""

    def __init__(self, text: str, features: nn.Module | None = None) -> None:
        """Read ``text``; ``features`` returns the feature terms by name (``train/losses/vgg.py``) where it has any.

        Raises:
            InputError: the expression is none, or needs features that are not given.
        """
        super().__init__()
        self.terms = tuple((name, weight) for name, weight in terms_of(text) if name != ADVERSARIAL)
        wanted = [name for name, _ in self.terms if name in FEATURE_TERMS]
        if wanted and features is None:
            raise InputError(f"--loss {text!r}: {wanted[0]} needs VGG19's weights; give --vgg FILE, or --content pixel")
        self.features = features if wanted else None

    def forward(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return each term, unweighted, and their weighted sum as ``loss``, of pictures (n, c, h, w) in [0, 1]."""
        seen = {} if self.features is None else self.features(sr, hr)
        pixels = {**NAMED, **PIXEL_TERMS}
        parts = {name: seen[name] if name in seen else pixels[name](sr, hr) for name, _ in self.terms}
        total = sum((weight * parts[name] for name, weight in self.terms[1:]), self.terms[0][1] * parts[self.terms[0][0]])
        return {**parts, "loss": total}


def loss_from(text: str) -> Loss:
    """Return the loss of an expression of pixel terms.

    Raises:
        InputError: it is none, or has other terms.
    """
    objective = Objective(text)

    def total(sr: Tensor, hr: Tensor) -> Tensor:
        value: Tensor = objective(sr, hr)["loss"]
        return value

    return total


def _shortest(weight: float) -> str:
    return f"{weight:g}" if float(f"{weight:g}") == weight else repr(weight)


def _weight(given: str | None, text: str) -> float:
    try:
        weight = 1.0 if given is None else float(given)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise InputError(f"--loss {text!r}: the weight {given} is no number above 0; 1*L1 is usual")
    return weight

"""Where the content loss of a run comes from: VGG19 with its weights, VGG19 with random ones, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sr_deploy.errors import InputError
from sr_deploy.train.losses.expression import FEATURE_TERMS, Objective, Terms, expression, terms_of
from sr_deploy.train.losses.vgg import ContentLoss, Distance, downloaded_vgg, random_vgg, vgg_from

RANDOM_VGG = "VGG19 with random weights"  # what a card says begins with

Kind = Literal["vgg", "random-vgg", "pixel"]


@dataclass(frozen=True)
class Content:
    """A choice that every process of a run can follow; ``name`` is what the card says."""

    kind: Kind
    path: Path | None = None  # of VGG19's weights
    distance: Distance = "mse"
    name: str | None = None

    def objective(self, text: str) -> Objective:
        """Return the terms of an expression; VGG19 is only built where one of them needs it."""
        wanted = [name for name, _ in terms_of(text) if name in FEATURE_TERMS]
        return Objective(text, self._features(wanted) if wanted else None)

    def _features(self, wanted: Sequence[str]) -> ContentLoss:
        if self.kind == "random-vgg":
            return ContentLoss(random_vgg(wanted), distance=self.distance)
        assert self.path is not None
        return ContentLoss(vgg_from(self.path, wanted)[0], distance=self.distance)


@dataclass(frozen=True)
class Wish:
    """What the command line says of content; ``None``: nothing."""

    kind: Kind | None = None
    path: Path | None = None
    distance: Distance | None = None


def choose_content(text: str, wish: Wish) -> tuple[str, Content]:
    """Return the expression to train with and where its feature terms come from, after checking that they can be had.

    ``pixel`` takes the feature terms out and puts the squared error in, where no pixel term stands.

    Raises:
        InputError: the file is none of VGG19, or an option does not fit the others.
        MachineError: the weights are not here and cannot be downloaded.
    """
    terms = terms_of(text)
    wanted = [name for name, _ in terms if name in FEATURE_TERMS]
    kind, path, distance = wish.kind or "vgg", wish.path, wish.distance or "mse"
    if not wanted:
        given = {"--vgg": path, "--content": wish.kind, "--vgg-distance": wish.distance}
        for option, value in given.items():
            if value is not None and value != "pixel":
                raise InputError(f"{option} {value}: --loss {text!r} has no term that uses it; add one, as 0.006*VGG54")
        return text, Content("pixel")
    if kind != "vgg" and path is not None:
        raise InputError(f"--vgg {path}: is not used with --content {kind}; leave one of them out")
    if kind == "pixel":
        return expression(without_features(terms)), Content("pixel", name="pixel")
    if kind == "random-vgg":
        return text, Content("random-vgg", distance=distance, name=f"{RANDOM_VGG}, {distance}")
    found = path or downloaded_vgg()
    _, digest = vgg_from(found, wanted)
    return text, Content("vgg", found, distance, f"VGG19 {digest[:19]}, {distance}")


def without_features(terms: Terms) -> Terms:
    """Return the terms without those of VGG19; the squared error stands in where no pixel term is left.

    SRGAN's paper compares pictures in [-1, 1] (section 3.2), where squared errors are four times those of [0, 1].
    """
    rest = {name: weight for name, weight in terms if name not in FEATURE_TERMS}
    return tuple((rest if "L1" in rest or "MSE" in rest else {"MSE": 4.0, **rest}).items())

"""Losses by name and as an expression."""

from __future__ import annotations

import pytest
import torch

from sr_deploy.errors import InputError
from sr_deploy.train.loop.recipe import Recipe
from sr_deploy.train.losses.expression import (
    Objective,
    expression,
    grey_levels,
    half_sum_of_squares,
    loss_from,
    mean_absolute,
    mean_squared,
    terms_of,
    weight_of,
)

SR, HR = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(0)), torch.full((3, 1, 5, 4), 0.5)


def test_names_are_the_papers_losses() -> None:
    assert torch.equal(loss_from("mse")(SR, HR), half_sum_of_squares(SR, HR))
    assert torch.equal(loss_from("l1")(SR, HR), grey_levels(SR, HR))


@pytest.mark.parametrize(
    ("text", "one", "two"),
    [("1*L1", 1.0, 0.0), ("L1", 1.0, 0.0), ("0.7*L1+0.3*MSE", 0.7, 0.3), (" 2 * MSE + 1e-3*L1 ", 1e-3, 2.0), ("1e+1*L1", 10, 0)],
)
def test_terms_are_weighed_and_added(text: str, one: float, two: float) -> None:
    expected = one * mean_absolute(SR, HR) + two * mean_squared(SR, HR)
    assert torch.allclose(loss_from(text)(SR, HR), expected)


def test_terms_compare_pixels_in_0_to_1_and_l1_grey_levels() -> None:
    ones, zeros = torch.full((1, 1, 2, 2), 2 / 255.0), torch.zeros(1, 1, 2, 2)
    assert float(mean_squared(ones, zeros)) == pytest.approx((2 / 255.0) ** 2)
    assert float(mean_absolute(ones, zeros)) == pytest.approx(2 / 255.0) and float(grey_levels(ones, zeros)) == pytest.approx(2.0)


def test_the_papers_expressions_are_read() -> None:
    text = "1*MSE+0.006*VGG54+0.001*GAN"
    assert terms_of(text) == (("MSE", 1.0), ("VGG54", 0.006), ("GAN", 0.001)) and expression(terms_of(text)) == text
    assert weight_of(text, "GAN") == 0.001 and weight_of(text, "L1") == 0.0
    assert expression(terms_of("mse")) == "mse"


def test_each_term_and_their_sum_are_given() -> None:
    class Seen(torch.nn.Module):
        def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"VGG54": (sr - hr).sum().square()}

    found = Objective("2*MSE+0.5*VGG54+0.1*GAN", Seen())(SR, HR)
    assert set(found) == {"MSE", "VGG54", "loss"}  # what the discriminator says is added by the one who asks it
    assert torch.allclose(found["loss"], 2.0 * mean_squared(SR, HR) + 0.5 * (SR - HR).sum().square())


def test_features_that_nobody_gives_are_asked_for() -> None:
    with pytest.raises(InputError, match="VGG54 needs VGG19's weights; give --vgg FILE, or --content pixel"):
        Objective("1*MSE+0.006*VGG54")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1*MSE+0.006*VGG55", "'0.006\\*VGG55' is unknown; known: mse, l1, or a sum .*; terms: L1, MSE, VGG22, VGG54, GAN"),
        ("1*L1+2*L1", "names L1 twice"),
        ("1*GAN", "nothing ties the result to the original"),
        ("l2", "'l2' is unknown"),
        ("", "'an empty term' is unknown"),
        ("1*L1+", "'an empty term' is unknown"),
        ("0*L1", "the weight 0 is no number above 0"),
        ("1e999*L1", "the weight 1e999 is no number above 0"),
        ("1.2.3*L1", "the weight 1.2.3 is no number above 0"),
        ("-1*L1", "the weight -1 is no number above 0"),
    ],
)
def test_what_is_no_loss_is_said(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Recipe(steps=1, loss=text)

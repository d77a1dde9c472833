"""Losses by name and as an expression."""

from __future__ import annotations

import pytest
import torch

from sr_deploy.errors import InputError
from sr_deploy.train.config import Recipe
from sr_deploy.train.losses import half_sum_of_squares, loss_from, mean_absolute, mean_squared

SR, HR = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(0)), torch.full((3, 1, 5, 4), 0.5)


def test_names_are_the_papers_losses() -> None:
    assert loss_from("mse") is half_sum_of_squares and loss_from("l1") is mean_absolute


@pytest.mark.parametrize(
    ("text", "one", "two"),
    [("1*L1", 1.0, 0.0), ("L1", 1.0, 0.0), ("0.7*L1+0.3*MSE", 0.7, 0.3), (" 2 * MSE + 1e-3*L1 ", 1e-3, 2.0), ("1e+1*L1", 10, 0)],
)
def test_terms_are_weighed_and_added(text: str, one: float, two: float) -> None:
    expected = one * mean_absolute(SR, HR) + two * mean_squared(SR, HR)
    assert torch.allclose(loss_from(text)(SR, HR), expected)


def test_squares_are_in_grey_levels() -> None:
    assert float(mean_squared(torch.full((1, 1, 2, 2), 2 / 255.0), torch.zeros(1, 1, 2, 2))) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1*MSE+0.006*VGG54", "'0.006\\*VGG54' is unknown; known: mse, l1, or a sum .*; terms: L1, MSE"),
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

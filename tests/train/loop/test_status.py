from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sr_deploy.train.loop.status import Losses, Meter, Trouble

YES, NO = torch.tensor(True), torch.tensor(False)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_mean_begins_with_the_first_loss_and_forgets_slowly() -> None:
    meter = Meter()
    meter.add(0, {"loss": number(10.0), "adversarial": number(1.0)}, YES)
    assert dict(meter.losses()) == {"loss": 10.0, "adversarial": 1.0}
    meter.add(1, {"loss": number(20.0), "adversarial": number(1.0)}, YES)
    assert dict(meter.losses()) == pytest.approx({"loss": 10.2, "adversarial": 1.0})


def test_a_resumed_mean_goes_on_to_the_bit() -> None:
    values = [0.1, 0.7, 0.3, 0.9]
    whole = Meter()
    for step, value in enumerate(values):
        whole.add(step, {"loss": number(value)}, YES)
    first = Meter()
    for step, value in enumerate(values[:2]):
        first.add(step, {"loss": number(value)}, YES)
    second = Meter(dict(first.losses()))
    for step, value in enumerate(values[2:]):
        second.add(step, {"loss": number(value)}, YES)
    assert dict(second.losses()) == dict(whole.losses())


def test_what_was_told_does_not_change() -> None:
    meter = Meter()
    meter.add(0, {"loss": number(1.0)}, YES)
    told = meter.losses()
    meter.add(1, {"loss": number(2.0)}, YES)
    assert told["loss"] == 1.0


def test_losses_are_read_when_somebody_looks() -> None:
    values = torch.zeros(1, dtype=torch.float64)
    told = Losses(("loss",), values)
    values += 3.0  # as a device that is still computing
    assert told["loss"] == 3.0


@pytest.mark.parametrize(
    ("losses", "finite", "expected"),
    [
        ({"loss": 1.0, "adversarial": math.nan}, YES, "the adversarial loss became nan"),
        ({"loss": -math.inf, "adversarial": math.nan}, YES, "the loss became -inf"),
        ({"loss": 1.0, "adversarial": 2.0}, NO, "the gradients became infinite or no number"),
    ],
)
def test_the_first_bad_step_is_kept(losses: dict[str, float], finite: Tensor, expected: str) -> None:
    good = {"loss": number(1.0), "adversarial": number(2.0)}
    meter = Meter()
    meter.add(6, good, YES)
    assert meter.trouble() is None
    meter.add(7, {name: number(value) for name, value in losses.items()}, finite)
    meter.add(8, {name: number(math.nan) for name in losses}, NO)
    assert meter.trouble() == Trouble(7, expected)

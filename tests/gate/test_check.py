"""The figures of a comparison and the lines that a broken budget gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sr_deploy.budgets import Budget
from sr_deploy.comparison import Degraded, PictureResult
from sr_deploy.comparison import compare as compare_degraded
from sr_deploy.degrade import Plane, Planes
from sr_deploy.gate.check import EngineResult, failures_of
from sr_deploy.measure import EQUAL_DB


def plane(seed: int) -> Plane:
    return np.random.default_rng(seed).random((32, 32), np.float32)


def result(name: str = "a", *, drop: float = 0.0, agreement: float = 60.0, shift: float = 0.0) -> PictureResult:
    return PictureResult(name, 30.0 - drop, 30.0, 28.0, agreement, shift)


def compare(picture: str, output: Planes, expected: Planes, hr: Planes, scale: int) -> PictureResult:
    return compare_degraded(Degraded(picture, scale, output, hr, 28.0), output, expected)


def lines_of(pictures: list[PictureResult], budget: Budget, weight_error: tuple[float, str] | None = None) -> tuple[str, ...]:
    return failures_of(EngineResult(tuple(pictures), "m", "int8", 2, 1.0, budget, weight_error=weight_error))


def test_equal_outputs_drop_nothing() -> None:
    found = compare("a", plane(0), plane(0), plane(1) * 255, 2)
    assert (found.drop_db, found.agreement_db, found.shift_levels) == (0.0, EQUAL_DB, 0.0)


def test_agreement_and_shift_are_measured_before_rounding() -> None:
    found = compare("a", plane(0) + np.float32(0.5 / 255), plane(0), plane(1) * 255, 2)
    # float32 near one resolves 6e-8, 1.5e-5 of a grey level
    assert found.shift_levels == pytest.approx(0.5, abs=1e-4)
    assert found.agreement_db == pytest.approx(20 * math.log10(255 / 0.5), abs=1e-2)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_damage_to_one_channel_of_rgb_is_seen(channel: int) -> None:
    hr = np.stack([plane(seed) for seed in (1, 2, 3)])
    output = hr / np.float32(255.0)
    damaged = output.copy()
    damaged[channel] += np.float32(2.0 / 255.0)
    found = compare("a.png", damaged, output, hr, 2)
    assert found.shift_levels == pytest.approx(2.0, abs=1e-3)  # of that channel, not a third of it
    assert found.agreement_db == pytest.approx(10.0 * math.log10(255.0**2 * 3.0 / 4.0), abs=1e-2)
    assert compare("a.png", output, output, hr, 2).shift_levels == 0.0


def test_drop_is_the_psnr_lost() -> None:
    hr: Plane = np.rint(plane(1) * np.float32(255.0))
    good, bad = ((hr + step) / np.float32(255.0) for step in (np.float32(2.0), np.float32(4.0)))
    keep = slice(2, -2)  # the shaved border; clipping at 255 touches few pixels
    inner = np.minimum(hr + 2, 255)[keep, keep] - hr[keep, keep], np.minimum(hr + 4, 255)[keep, keep] - hr[keep, keep]
    expected = 10 * math.log10(float(np.mean(inner[1] ** 2)) / float(np.mean(inner[0] ** 2)))
    assert compare("a", bad, good, hr, 2).drop_db == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_output_that_is_not_finite_agrees_with_nothing(value: float) -> None:
    found = compare("a", np.full((32, 32), value, np.float32), plane(0), plane(1) * 255, 2)
    lines = lines_of([found], Budget(min_agreement_db=1.0))
    assert len(lines) == 1


def test_one_infinite_pixel_agrees_with_nothing() -> None:
    broken = plane(0)
    broken[5, 5] = math.inf
    found = compare("a", broken, plane(0), plane(1) * 255, 2)
    assert lines_of([found], Budget(min_agreement_db=1.0))


def test_within_the_budget_nothing_is_said() -> None:
    assert lines_of([result(drop=0.125, agreement=42.0, shift=-0.25)], Budget(0.125, 0.125, 42.0, 0.25)) == ()


def test_no_limit_is_not_checked() -> None:
    assert lines_of([result(drop=9.0, agreement=1.0, shift=9.0)], Budget()) == ()


def test_mean_drop_over_the_budget_is_named() -> None:
    lines = lines_of([result(drop=0.1), result(drop=0.3)], Budget(max_drop_db=0.15))
    assert len(lines) == 1
    assert lines[0].startswith("m x2: PSNR 29.800 dB is 0.200 dB below fp32 (30.000 dB), the budget is 0.15 dB; ")


def test_a_picture_over_its_budget_is_named() -> None:
    lines = lines_of([result("good"), result("bad", drop=0.4)], Budget(max_drop_worst_picture_db=0.3))
    assert len(lines) == 1
    assert lines[0].startswith("m x2: bad lost 0.400 dB (30.000 to 29.600 dB), the budget for a single picture is 0.3 dB; ")


def test_a_picture_that_agrees_too_little_is_named() -> None:
    lines = lines_of([result("good"), result("bad", agreement=41.0)], Budget(min_agreement_db=42.0))
    assert len(lines) == 1 and "on bad it agrees with fp32 by 41.00 dB, the budget is at least 42 dB" in lines[0]


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_a_picture_that_became_brighter_or_darker_is_named(shift: float) -> None:
    lines = lines_of([result("good"), result("bad", shift=shift)], Budget(max_shift_levels=0.25))
    assert len(lines) == 1 and f"bad is {shift:+.3f} grey levels off fp32 on average, the budget is 0.25" in lines[0]


@pytest.mark.parametrize("position", [0, 1])
def test_a_shift_that_is_no_number_is_seen_on_any_picture(position: int) -> None:
    pictures = [result(), result()]
    pictures[position] = result("nan", shift=math.nan)
    assert lines_of(pictures, Budget(max_shift_levels=0.25))


def test_a_gain_is_no_failure() -> None:
    assert lines_of([result(drop=-1.0)], Budget(max_drop_db=0.1, max_drop_worst_picture_db=0.1)) == ()


@pytest.mark.parametrize("steps", [0.52, 254.0, math.inf, math.nan])
def test_a_weight_further_off_than_rounding_is_named(steps: float) -> None:
    lines = lines_of([result()], Budget(max_weight_error_steps=0.51), (steps, "conv7"))
    assert (
        len(lines) == 1
        and "m x2: a weight of conv7 is " in lines[0]
        and "the budget is 0.51 (rounding alone gives 0.5)" in lines[0]
    )


def test_a_rounded_weight_is_within_the_budget() -> None:
    assert lines_of([result()], Budget(max_weight_error_steps=0.51), (0.5, "conv7")) == ()


def threshold_lines(**ratios: float) -> tuple[str, ...]:
    budget = Budget(max_threshold_ratio=1.01)
    return failures_of(EngineResult((result(),), "m", "int8", 2, 1.0, budget, threshold_ratios=ratios))


def test_recorded_thresholds_pass() -> None:
    assert threshold_lines() == ()
    assert threshold_lines(conv1=1.001, conv2=0.999) == ()


@pytest.mark.parametrize(("ratio", "text"), [(2.0, "2.00"), (0.2, "5.00")])
def test_a_threshold_that_is_not_the_recorded_one_names_its_layer(ratio: float, text: str) -> None:
    (line,) = threshold_lines(conv7=ratio, **{f"conv{n}": 1.0 for n in range(6)})
    assert f"m x2: the threshold of conv7 is off by a factor of {text} from the one that its calibration recorded" in line


def test_a_threshold_that_is_not_recorded_cannot_be_checked() -> None:
    assert "card does not record the threshold of conv1" in threshold_lines(conv1=0.0, conv2=1.0)[0]


@pytest.mark.parametrize(
    ("budget", "pictures"),
    [
        (Budget(max_drop_db=0.1), [result(drop=0.11)]),
        (Budget(max_drop_worst_picture_db=0.1), [result(drop=0.11)]),
        (Budget(min_agreement_db=61.0), [result()]),
        (Budget(max_shift_levels=0.25), [result(shift=0.26), result(shift=-0.1)]),
    ],
)
def test_a_budget_that_is_merely_tight_calls_nothing_damaged(budget: Budget, pictures: list[PictureResult]) -> None:
    (line,) = lines_of(pictures, budget)
    assert "damaged" not in line and "adds a constant" not in line and "keep layers in float" in line


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_constant_that_is_added_is_called_so(sign: float) -> None:
    (line,) = lines_of([result("a", shift=sign * 0.5), result("b", shift=sign * 0.4)], Budget(max_shift_levels=0.25))
    assert line.endswith("is 0.25; the engine adds a constant (every picture is off by 0.400 or more): export it again")


def test_an_engine_that_is_not_good_enough_in_itself_is_named() -> None:
    (line,) = lines_of([result(drop=0.5)], Budget(min_psnr_db=29.6))
    assert line.startswith("m x2: PSNR 29.500 dB, the budget is at least 29.6 dB (fp32 has 30.000 dB); ")
    (line,) = lines_of([result(drop=0.5)], Budget(min_gain_over_bicubic_db=1.6))
    assert line.startswith("m x2: +1.500 dB over bicubic, the budget is at least 1.6 dB (fp32 has 30.000 dB); ")
    assert lines_of([result()], Budget(min_psnr_db=30.0, min_gain_over_bicubic_db=2.0)) == ()

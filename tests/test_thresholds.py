from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sr_deploy.errors import InputError
from sr_deploy.thresholds import (
    BINS,
    LEVELS,
    METHODS,
    QMAX,
    Counting,
    Histogram,
    _divergence,
    choose,
    kl,
    kl_weighted,
    minmax,
    mse,
    percentile,
)

Values = NDArray[np.float32]


def histogram(values: Values) -> Histogram:
    found = Counting()
    found.add_(values)
    return found.histogram()


def heavy_tailed(seed: int = 0) -> Values:
    """Many small values and a few large ones, as the activations of a residual network."""
    rng = np.random.default_rng(seed)
    return (rng.exponential(1.0, 100_000) ** 2).astype(np.float32)


def uniform() -> Values:
    return np.random.default_rng(0).uniform(-1.0, 1.0, 100_000).astype(np.float32)


def half_normal() -> Values:
    return np.abs(np.random.default_rng(0).normal(0.0, 1.0, 100_000)).astype(np.float32)


DISTRIBUTIONS = {"heavy-tailed": heavy_tailed(), "uniform": uniform(), "half normal": half_normal()}


def scalar_divergence(weights: list[float], bins: int) -> float:
    """KL(P || Q) of one cut, one bin at a time."""
    inside, clipped = weights[:bins], math.fsum(weights[bins:])
    if math.fsum(inside) <= 0.5 * math.fsum(weights):
        return math.inf
    p = [*inside[:-1], inside[-1] + clipped]
    q = [0.0] * bins
    levels: dict[int, list[int]] = {}
    for i in range(bins):
        if inside[i] > 0.0:
            levels.setdefault(i * LEVELS // bins, []).append(i)
    for members in levels.values():
        for i in members:
            q[i] = math.fsum(inside[j] for j in members) / len(members)
    total_p, total_q = math.fsum(p), math.fsum(q)
    return math.fsum(a / total_p * math.log(a / total_p / max(b / total_q, 1e-10)) for a, b in zip(p, q, strict=True) if a > 0.0)


def test_counts_fall_into_equal_bins() -> None:
    found = histogram(np.array([0.0, 0.49, 0.5, -0.5, 1.0, 1023.9, -1024.0], np.float32))
    assert found.maximum == 1024.0
    assert {int(i): int(found.counts[i]) for i in found.counts.nonzero()[0]} == {0: 2, 1: 2, 2: 1, BINS - 1: 2}


def test_a_range_that_is_no_power_of_two_has_equal_bins_too() -> None:
    values = np.linspace(0.0, 3.0, 300_001, dtype=np.float32)
    exact = np.minimum(np.abs(values) * (BINS / 3.0), BINS - 1).astype(int)
    found = histogram(values)
    assert found.maximum == 3.0 and found.counts.sum() == len(values)
    # a fine bin, of which 24 make one of these, goes whole where its centre lies
    assert np.abs(np.cumsum(found.counts) - np.cumsum(np.bincount(exact, minlength=BINS))).max() <= len(values) / BINS / 24


def test_counting_in_any_order_gives_the_same() -> None:
    # the range grows: by a factor of 2 to 2**40 at once, and from nothing
    values = np.concatenate([heavy_tailed() * np.float32(2.0**-40), np.zeros(1000, np.float32), heavy_tailed()])
    whole = histogram(values)
    for parts in (
        np.array_split(values, 7),
        np.array_split(values[::-1], 11),
        [np.sort(values)[::100], np.delete(np.sort(values), slice(None, None, 100))],
    ):
        found = Counting()
        for part in parts:
            found.add_(part.reshape(1, -1))
        assert found.histogram().maximum == whole.maximum
        assert np.array_equal(found.histogram().counts, whole.counts)


def test_two_that_counted_apart_are_joined() -> None:
    nothing = np.zeros(1000, np.float32)
    small = heavy_tailed() * np.float32(2.0**-40)
    for first, second in (
        (heavy_tailed(), small),
        (small, heavy_tailed()),
        (nothing, small),
        (small, nothing),
        (nothing, nothing),
    ):
        one, other, whole = Counting(), Counting(), Counting()
        one.add_(first)
        other.add_(second)
        whole.add_(np.concatenate([first, second]))
        one.join_(other)
        assert one.largest == whole.largest and np.array_equal(one.counts, whole.counts)


def test_counting_knows_the_largest_value_or_is_told() -> None:
    told, found = Counting(), Counting()
    told.add_(uniform(), float(np.abs(uniform()).max()))
    found.add_(uniform())
    assert np.array_equal(told.histogram().counts, found.histogram().counts) and told.largest == found.largest


def test_counts_do_not_depend_on_the_sign() -> None:
    assert np.array_equal(histogram(uniform()).counts, histogram(-uniform()).counts)


def test_counting_leaves_the_values_alone() -> None:
    values = np.array([-0.5, 0.25], np.float32)
    histogram(values)
    assert values.tolist() == [-0.5, 0.25]


def test_nothing_counts_as_nothing() -> None:
    found = Counting()
    found.add_(np.zeros((0, 3), np.float32))
    assert found.histogram().maximum == 0.0 and found.histogram().counts.sum() == 0


def test_centres_span_the_range() -> None:
    centres = Histogram(2.0, np.zeros(BINS, np.int64)).centres
    assert len(centres) == BINS
    assert centres[0] == 0.5 * 2.0 / BINS
    assert centres[-1] == 2.0 - 0.5 * 2.0 / BINS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_thresholds_lie_between_zero_and_the_maximum(method: str, name: str) -> None:
    values = DISTRIBUTIONS[name]
    assert 0.0 < choose(histogram(values), method, name="x") <= np.abs(values).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_twice_the_values_give_twice_the_threshold(method: str, name: str) -> None:
    values = DISTRIBUTIONS[name]
    once, twice = (choose(histogram(values * np.float32(factor)), method, name="x") for factor in (1, 2))
    assert twice == 2 * once  # a power of two: exact


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_counts_give_the_same_threshold(method: str) -> None:
    once = histogram(heavy_tailed())
    assert choose(Histogram(once.maximum, once.counts * 2), method, name="x") == choose(once, method, name="x")


def test_minmax_clips_nothing() -> None:
    assert minmax(histogram(heavy_tailed())) == float(heavy_tailed().max())


def test_percentile_clips_one_value_in_ten_thousand() -> None:
    values = uniform()
    threshold = percentile(histogram(values))
    assert threshold == pytest.approx(float(np.percentile(np.abs(values), 99.99)), abs=1.0 / BINS)  # a bin
    assert (np.abs(values) > threshold).sum() <= len(values) / 10_000


def test_percentile_counts_values_not_sizes() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[10], counts[2000] = 99_999, 1
    assert percentile(Histogram(2048.0, counts)) == 11.0
    counts[2000] = 100
    assert percentile(Histogram(2048.0, counts)) == 2001.0


def test_kl_clips_rare_large_values_harder_than_weighted_by_amplitude() -> None:
    found = histogram(heavy_tailed())
    assert kl(found) < 0.5 * kl_weighted(found)


@pytest.mark.parametrize("method", [kl, kl_weighted, mse])
def test_a_uniform_distribution_is_hardly_clipped(method: object) -> None:
    assert callable(method)
    assert method(histogram(uniform())) > 0.95


def test_mse_is_the_best_of_its_candidates() -> None:
    found = histogram(heavy_tailed())

    def error(threshold: float) -> float:
        step, total = threshold / QMAX, 0.0
        for centre, weight in zip(found.centres.tolist(), found.counts.tolist(), strict=True):
            total += weight * (min(round(centre / step), QMAX) * step - centre) ** 2
        return total

    candidates = [bins * found.maximum / BINS for bins in range(LEVELS, BINS + 1, 64)]
    assert error(mse(found)) <= min(error(candidate) for candidate in candidates) * (1 + 1e-9)  # float64 sums


@pytest.mark.parametrize("bins", [LEVELS, 129, 200, 255, 256, 257, 1000, 2047, BINS])
@pytest.mark.parametrize("seed", [0, 1])
def test_divergence_equals_the_definition_bin_by_bin(bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = np.floor(rng.exponential(30.0, BINS) * np.exp(-np.arange(BINS) / 60.0)) * (rng.random(BINS) < 0.7)
    weights += (rng.random(BINS) < 0.02) * 1.0
    expected = scalar_divergence(weights.tolist(), bins)
    assert _divergence(weights, bins) == pytest.approx(expected, rel=1e-9, abs=1e-12)  # float64 sums in another order


def test_a_cut_that_clips_more_than_half_is_no_candidate() -> None:
    weights = np.zeros(BINS)
    weights[5], weights[500] = 1.0, 2.0
    assert _divergence(weights, 200) == math.inf
    assert _divergence(weights, 600) < math.inf


def test_a_distribution_that_fits_the_levels_has_no_divergence() -> None:
    assert _divergence(np.ones(BINS), BINS) == pytest.approx(0.0, abs=1e-12)
    assert _divergence(np.concatenate([np.ones(LEVELS), np.zeros(BINS - LEVELS)]), LEVELS) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_search_finds_the_cut_of_least_divergence(weighted: bool) -> None:
    rng = np.random.default_rng(3)
    counts = np.zeros(BINS, np.int64)
    counts[:300] = np.floor(2000 * np.exp(-np.arange(300) / 40.0)) + rng.integers(0, 3, 300)
    counts[[700, 1200, BINS - 1]] = 1
    found = Histogram(float(BINS), counts)
    weights = counts * found.centres if weighted else np.concatenate([[0], counts[1:]]).astype(np.float64)
    threshold = kl_weighted(found) if weighted else kl(found)
    assert threshold % 1.0 == (0.5 if threshold < BINS else 0.0)  # half a bin above the last one kept
    best = scalar_divergence(weights.tolist(), int(threshold))
    near = range(max(int(threshold) - 8, LEVELS), min(int(threshold) + 9, BINS + 1))
    for bins in {*near, *range(LEVELS, BINS + 1, 32)}:
        assert best <= scalar_divergence(weights.tolist(), bins) + 1e-12  # float64 sums in another order


def test_kl_leaves_the_zeros_out() -> None:
    found = histogram(heavy_tailed())
    crowded = found.counts.copy()
    crowded[0] += 10**9
    assert kl(Histogram(found.maximum, crowded)) == kl(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("maximum", [0.0, float("nan"), float("inf"), -1.0])
def test_nothing_but_zeros_is_refused(method: str, maximum: float) -> None:
    with pytest.raises(
        InputError, match=f"conv1: its largest value over the calibration pictures is {maximum}; calibrate on real"
    ):
        choose(Histogram(maximum, np.zeros(BINS, np.int64)), method, name="conv1")


def test_values_next_to_zero_count_as_zeros() -> None:
    found = Counting()
    found.add_(np.full(5, 1e-35, np.float32))
    assert found.histogram().maximum == pytest.approx(1e-35) and found.histogram().counts[0] == 5
    found.add_(np.ones(1, np.float32))
    assert found.histogram().counts[0] == 5 and found.histogram().counts[-1] == 1


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(
        InputError, match="calibration method 'entropy' is unknown; known: kl-weighted, kl, minmax, percentile, mse"
    ):
        choose(histogram(uniform()), "entropy", name="x")

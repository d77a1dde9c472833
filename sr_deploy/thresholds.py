"""From what flows through a layer to the threshold of its int8 quantization: histograms and five ways to choose.

Values are |x| of one tensor over all calibration pictures. A threshold T maps [-T, T] to the integers -127..127; larger
values are clipped. What to clip is a trade between the many small values (a small T resolves them) and the few large
ones (a small T destroys them).

``kl`` is TensorRT's choice (Migacz, "8-bit Inference with TensorRT", GTC 2017): of all T take the one whose quantized
distribution has the least Kullback-Leibler divergence from the original, 2048 bins and 128 levels, the bin of the zeros
left out. It counts every value alike. In a residual super-resolution network the rare large activations *are* the
edges, and plain KL clips them: VDSR loses about half a decibel. ``kl-weighted`` runs the same search on the histogram
weighted by amplitude (count times bin centre), so that a bin counts for the signal it carries.

Histograms hold whole numbers, so adding them up gives the same result in any order; thresholds are functions of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_deploy.errors import InputError

BINS = 2048
FINE_POWER = 16
FINE = 2**FINE_POWER  # bins while the range grows: at least 16 of them in one of the 2048
AT_ONCE = 2**19  # values counted at once: what is made of them stays in the cache
LEVELS = 128
QMAX = 127
OUTPUT_KEY = ".output"  # behind a convolution's name: the threshold of its output
TINY = 1e-30  # a tensor that never exceeds it holds nothing
PERCENTILE = 99.99
MOST_CLIPPED = 0.5  # a threshold that clips more of the weight is no candidate (an only occupied bin would fit perfectly)
UNSEEN = 1e-10  # probability of a bin that holds clipped values but none of its own: makes such a cut expensive

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Counts of |x| in ``BINS`` equal bins from 0 to ``maximum``, the largest that was seen."""

    maximum: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> Weights:
        """Bin centres: float64 (BINS,), in the unit of the values."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.maximum / BINS), np.float64)


class Counting:
    """Counts |x| while the range is not known yet: ``FINE`` bins up to a power of two, which doubles as larger values come.

    Doubling adds up pairs of bins, and dividing by a power of two is exact: whatever the order of the values, the counts are
    those of the last range from the beginning.
    """

    def __init__(self) -> None:
        """Start without values."""
        self.largest = 0.0
        self.exponent: int | None = None  # the bins reach up to 2 ** exponent; None: nothing above TINY so far
        self.counts = np.zeros(FINE, np.int64)

    def add_(self, values: NDArray[np.float32], largest: float | None = None) -> None:
        """Count the absolute values of an array of any shape, finite ones; ``largest`` of them where it is known already."""
        if values.size == 0:
            return
        self._reach_(max(float(values.max()), -float(values.min())) if largest is None else largest)
        if self.exponent is None:
            self.counts[0] += values.size
            return
        factor, flat = np.float32(2.0 ** (FINE_POWER - self.exponent)), values.ravel()
        for start in range(0, flat.size, AT_ONCE):
            positions = flat[start : start + AT_ONCE] * factor
            np.abs(positions, out=positions)
            self.counts += np.bincount(positions.astype(np.intp), minlength=FINE)

    def join_(self, other: Counting) -> None:
        """Count what another one has counted; it may widen its range for that."""
        self._reach_(other.largest)
        other._reach_(self.largest)
        self.counts += other.counts

    def histogram(self) -> Histogram:
        """Return the counts in ``BINS`` equal bins up to the largest value; a fine bin goes where its centre lies."""
        counts = np.zeros(BINS, np.int64)
        if self.exponent is None:
            counts[0] = self.counts[0]
            return Histogram(self.largest, counts)
        centres = (np.arange(FINE) + 0.5) * 2.0 ** (self.exponent - FINE_POWER)
        np.add.at(counts, np.minimum(centres * (BINS / self.largest), BINS - 1).astype(np.int64), self.counts)
        return Histogram(self.largest, counts)

    def _reach_(self, largest: float) -> None:
        """Widen the range until ``largest`` lies in it."""
        self.largest = max(self.largest, largest)
        if not self.largest > TINY:
            return
        exponent = math.frexp(self.largest)[1]  # the least for which largest < 2 ** exponent
        if self.exponent is None:
            self.exponent = exponent  # all that was counted is next to zero, which stays in the first bin
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros_like(pairs)])
            self.exponent += 1


def kl(histogram: Histogram) -> float:
    """Return TensorRT's threshold: least divergence over the counts, zero bin left out."""
    weights = histogram.counts.astype(np.float64)
    weights[0] = 0.0
    return _least_divergence(weights, histogram.maximum)


def kl_weighted(histogram: Histogram) -> float:
    """Return the threshold of least divergence over counts times amplitude."""
    return _least_divergence(histogram.counts * histogram.centres, histogram.maximum)


def minmax(histogram: Histogram) -> float:
    """Return the largest value seen: nothing is clipped."""
    return histogram.maximum


def percentile(histogram: Histogram) -> float:
    """Return the upper edge of the bin that holds the 99.99th percentile of the values."""
    total = histogram.counts.sum()
    position = int(np.searchsorted(np.cumsum(histogram.counts), total * (PERCENTILE / 100.0)))
    return (min(position, BINS - 1) + 1) * histogram.maximum / BINS


def mse(histogram: Histogram) -> float:
    """Return the threshold of least squared error, over the candidates of the KL search."""
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)
    best = histogram.maximum, np.inf
    for bins in range(LEVELS, BINS + 1, 8):
        threshold = bins * histogram.maximum / BINS
        step = threshold / QMAX
        error = float(np.sum(counts * (np.minimum(np.rint(centres / step), QMAX) * step - centres) ** 2))
        if error < best[1]:
            best = threshold, error
    return best[0]


METHODS: dict[str, Callable[[Histogram], float]] = {
    "kl-weighted": kl_weighted,
    "kl": kl,
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
}


def choose(histogram: Histogram, method: str, *, name: str) -> float:
    """Return the threshold of ``method`` for the tensor ``name``.

    Raises:
        InputError: unknown method, or nothing but zeros was seen.
    """
    if method not in METHODS:
        raise InputError(f"calibration method {method!r} is unknown; known: {', '.join(METHODS)}")
    if not histogram.maximum > TINY or not np.isfinite(histogram.maximum):
        raise InputError(
            f"{name}: its largest value over the calibration pictures is {histogram.maximum}; calibrate on real photographs"
        )
    return METHODS[method](histogram)


def _least_divergence(weights: Weights, maximum: float) -> float:
    best = BINS, np.inf
    for bins in range(LEVELS, BINS + 1):
        divergence = _divergence(weights, bins)
        if divergence < best[1]:
            best = bins, divergence
    return (best[0] + 0.5) * maximum / BINS if best[0] < BINS else maximum


def _divergence(weights: Weights, bins: int) -> float:
    """Return KL(P || Q): P the first ``bins`` bins with the clipped rest in the last one, Q their 128-level version."""
    inside = weights[:bins]
    p = inside.copy()
    p[-1] += weights[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    occupied = inside > 0.0
    sums = np.bincount(level, weights=inside, minlength=LEVELS)
    sizes = np.bincount(level, weights=occupied, minlength=LEVELS)
    q = np.where(occupied, (sums / np.maximum(sizes, 1.0))[level], 0.0)
    if not inside.sum() > MOST_CLIPPED * weights.sum():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0.0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], UNSEEN))))

"""What an engine loses against its fp32 network on pictures, and which limits of a budget that breaks.

One definition for two: the accuracy guard of ``sr-export`` keeps layers in float until nothing here is broken, and ``sr-gate``
rejects an engine for what is. Both run whole pictures through the engine's tiles and compare here, so on the same pictures and
with the same budget they say the same.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np

from sr_deploy.budgets import Budget
from sr_deploy.degrade import Planes, Upscale, network_pair
from sr_deploy.errors import InputError
from sr_deploy.measure import bicubic, levels, lost_db, luma_of, psnr

NOT_FINITE_LEVELS = 1e6
KEEP = "calibrate on more photographs (sr-export --calib) or keep layers in float (--max-drop, --keep)"


@dataclass(frozen=True)
class Degraded:
    """A picture as networks are measured on it; planes are (h, w) luma or (3, h, w) RGB."""

    picture: str
    scale: int
    given: Planes  # what the network reads, in [0, 1]
    hr: Planes  # the original, in grey levels
    bicubic_db: float  # PSNR of bicubic enlargement, in the network's own colours


def degrade(picture: str, original: Planes, scale: int, upscale: Upscale) -> Degraded:
    """Return a picture (in grey levels) made small, and enlarged again for networks that enlarge ``before``.

    Raises:
        InputError: it is too small for the scale.
    """
    h, w = original.shape[-2:]
    if min(h, w) <= 4 * scale:
        raise InputError(f"{picture}: {w}x{h} pixels is too small to measure at x{scale}; leave it out")
    given, hr = network_pair(original, scale, upscale)
    given = given / np.float32(255.0)
    enlarged = given if upscale == "before" else bicubic(given, scale)
    return Degraded(picture, scale, given, hr, quality_db(enlarged, hr, scale))


@dataclass(frozen=True)
class PictureResult:
    """One engine on one picture."""

    picture: str
    psnr_db: float
    reference_db: float
    bicubic_db: float
    agreement_db: float  # of the unrounded outputs, peak 255
    shift_levels: float  # mean of engine minus reference in grey levels, of the channel furthest off

    @property
    def drop_db(self) -> float:
        """How much the engine lost."""
        return lost_db(self.reference_db, self.psnr_db)


def compare(degraded: Degraded, output: Planes, expected: Planes) -> PictureResult:
    """Return what an engine's ``output`` in [0, 1] lost against the ``expected`` one of its fp32 network."""
    ours, theirs = (quality_db(planes, degraded.hr, degraded.scale) for planes in (output, expected))
    agreement = psnr(output * np.float32(255.0), expected * np.float32(255.0))
    shifts = np.mean((output.astype(np.float64) - expected) * 255.0, axis=(-2, -1)).ravel()
    shift = float(shifts[np.argmax(np.abs(shifts))])
    shift = shift if math.isfinite(shift) else NOT_FINITE_LEVELS
    return PictureResult(degraded.picture, ours, theirs, degraded.bicubic_db, agreement, shift)


def quality_db(planes: Planes, hr: Planes, scale: int) -> float:
    """Return the PSNR of the luma of a result in [0, 1] against an original in grey levels."""
    return psnr(luma_of(levels(planes)), luma_of(hr), shave=scale)


@dataclass(frozen=True)
class Losses:
    """An engine on all pictures, at one scale."""

    pictures: tuple[PictureResult, ...]

    @property
    def psnr_db(self) -> float:
        """Mean PSNR of the engine."""
        return statistics.fmean(p.psnr_db for p in self.pictures)

    @property
    def reference_db(self) -> float:
        """Mean PSNR of the fp32 network."""
        return statistics.fmean(p.reference_db for p in self.pictures)

    @property
    def drop_db(self) -> float:
        """Mean drop against the fp32 network."""
        return statistics.fmean(p.drop_db for p in self.pictures)

    @property
    def gain_db(self) -> float:
        """Mean gain over bicubic enlargement."""
        return self.psnr_db - statistics.fmean(p.bicubic_db for p in self.pictures)

    @property
    def worst_drop(self) -> PictureResult:
        """The picture that lost most."""
        return max(self.pictures, key=lambda p: p.drop_db)

    @property
    def worst_agreement(self) -> PictureResult:
        """The picture whose output is furthest from the reference's."""
        return min(self.pictures, key=lambda p: p.agreement_db)

    @property
    def worst_shift(self) -> PictureResult:
        """The picture that became brightest or darkest."""
        return max(self.pictures, key=lambda p: abs(p.shift_levels) if math.isfinite(p.shift_levels) else math.inf)

    def figures(self) -> dict[str, float]:
        """Return what limits are held against."""
        return {
            "psnr_db": self.psnr_db,
            "gain_over_bicubic_db": self.gain_db,
            "drop_db": self.drop_db,
            "worst_drop_db": self.worst_drop.drop_db,
            "worst_agreement_db": self.worst_agreement.agreement_db,
            "worst_shift_levels": self.worst_shift.shift_levels,
        }


@dataclass(frozen=True)
class Spent:
    """How much of one limit of a budget is used."""

    share: float  # 1: all of it; more, or no number: the limit is broken
    text: str  # the figure, the limit, and what to do

    @property
    def broken(self) -> bool:
        """Whether the limit is exceeded."""
        return not self.share <= 1.0


def spending(losses: Losses, budget: Budget) -> list[Spent]:
    """Return how much of each limit of ``budget`` is used, of those that pictures tell something of."""
    return [*_spent_against_fp32(losses, budget), *_spent_in_itself(losses, budget)]


def _spent_against_fp32(losses: Losses, budget: Budget) -> list[Spent]:
    drop, worst, apart, found = losses.drop_db, losses.worst_drop, losses.worst_agreement, list[Spent]()
    if (limit := budget.max_drop_db) is not None:
        text = f"PSNR {losses.psnr_db:.3f} dB is {drop:.3f} dB below fp32 ({losses.reference_db:.3f} dB), "
        found.append(Spent(_share(drop, limit), f"{text}the budget is {limit:g} dB; {KEEP}"))
    if (limit := budget.max_drop_worst_picture_db) is not None:
        text = f"{worst.picture} lost {worst.drop_db:.3f} dB ({worst.reference_db:.3f} to {worst.psnr_db:.3f} dB), "
        found.append(Spent(_share(worst.drop_db, limit), f"{text}the budget for a single picture is {limit:g} dB; {KEEP}"))
    if (limit := budget.min_agreement_db) is not None:
        text = f"on {apart.picture} it agrees with fp32 by {apart.agreement_db:.2f} dB, the budget is at least {limit:g} dB"
        found.append(Spent(_shortage(apart.agreement_db, limit), f"{text}; {KEEP}"))
    if (limit := budget.max_shift_levels) is not None:
        found.append(_spent_shift(losses, limit))
    return found


def _spent_shift(losses: Losses, limit: float) -> Spent:
    shifted, shifts = losses.worst_shift, [p.shift_levels for p in losses.pictures]
    text = f"{shifted.picture} is {shifted.shift_levels:+.3f} grey levels off fp32 on average, the budget is {limit:g}"
    least = min(abs(shift) for shift in shifts)
    alike = least > limit and (min(shifts) > 0.0 or max(shifts) < 0.0)
    advice = f"the engine adds a constant (every picture is off by {least:.3f} or more): export it again" if alike else KEEP
    return Spent(_share(abs(shifted.shift_levels), limit), f"{text}; {advice}")


def _spent_in_itself(losses: Losses, budget: Budget) -> list[Spent]:
    found, fp32 = list[Spent](), f"fp32 has {losses.reference_db:.3f} dB"
    advice = "take a network that is good enough, or lower the limit"
    if (limit := budget.min_psnr_db) is not None:
        text = f"PSNR {losses.psnr_db:.3f} dB, the budget is at least {limit:g} dB ({fp32})"
        found.append(Spent(_shortage(losses.psnr_db, limit), f"{text}; {advice}"))
    if (limit := budget.min_gain_over_bicubic_db) is not None:
        text = f"{losses.gain_db:+.3f} dB over bicubic, the budget is at least {limit:g} dB ({fp32})"
        found.append(Spent(_shortage(losses.gain_db, limit), f"{text}; {advice}"))
    return found


def _share(value: float, limit: float) -> float:
    """Return the part of a limit that ``value`` uses; a gain uses nothing, and of no limit anything is too much."""
    if value <= 0.0:
        return 0.0
    return value / limit if limit else math.inf


def _shortage(value_db: float, least_db: float) -> float:
    """Return by what factor an error is larger than ``least_db`` allows."""
    return math.pow(10.0, (least_db - value_db) / 20.0)

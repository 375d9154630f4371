"""The operating curve of one keyword: which threshold gives how many false accepts, in rare cases too.

Four hours of ambient audio cannot show what happens once a day. Above a high score, though, the number of
peaks falls exponentially with their logit, as the tails of most distributions do ("peaks over threshold",
Pickands 1975, with shape 0). So the highest `TAIL_PEAKS` peaks of a keyword give a line

    ln(false accepts per hour) = ln(k / hours) - (logit - anchor) / scale

anchored at the logit of the next lower peak. The scale is the mean height of the k peaks above that anchor,
its maximum likelihood (Hill's estimator, 1975, of the odds). The line gives every point with at most k false
accepts in the hours measured: it smooths those that were counted and prolongs them to rates that were not,
and those are marked. Points with more false accepts are counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from kws.evaluate import metrics
from kws.manifest import OperatingPoint
from kws.operating import HOURS_PER_DAY, from_logit, logit

RATES_PER_DAY = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 12.0, 24.0, 48.0, 120.0, 240.0)
"""False accepts of the points; the rate of one in the hours measured is added."""
TAIL_PEAKS = 30
"""Peaks that fix the line: fewer are less certain, many more lie where it bends."""
FEWEST_PEAKS = 5
"""With fewer, no line is drawn."""
THRESHOLD_DIGITS = 6
"""Of a threshold in a manifest."""


@dataclass(frozen=True)
class Tail:
    """The line through a keyword's highest ambient peaks."""

    anchor: float
    """Logit that `peaks` peaks exceed."""
    scale: float
    """Logits by which the rate falls to 1/e."""
    peaks: int
    """Peaks above the anchor."""
    hours: float

    @classmethod
    def fit(cls, ambient_peaks: Sequence[float], hours: float, peaks: int = TAIL_PEAKS) -> Self | None:
        """Through the highest `peaks` (or all but one, if there are fewer); None when they are too few."""
        logits = sorted(map(logit, ambient_peaks), reverse=True)[: peaks + 1]
        count = len(logits) - 1
        scale = math.fsum(logits[:count]) / count - logits[-1] if count >= FEWEST_PEAKS else 0.0
        return cls(logits[-1], scale, count, hours) if scale > 0 else None

    def threshold(self, per_hour: float) -> float:
        """That lets `per_hour` false accepts through."""
        return from_logit(self.anchor + self.scale * math.log(self.peaks / (per_hour * self.hours)))

    def interval(self, per_hour: float) -> tuple[float, float]:
        """95 % interval of the rate that this threshold really has, per hour.

        The logarithm of the rate is uncertain by the count of peaks and by the slope, each to 1/sqrt(k).
        """
        steepness = math.log(self.peaks / (per_hour * self.hours))
        factor = math.exp(metrics.Z * math.sqrt((1 + steepness**2) / self.peaks))
        return per_hour / factor, per_hour * factor


def operating_curve(
    ambient_peaks: Sequence[float],
    hours: float,
    scores: Sequence[float],
    weights: metrics.Floats,
) -> list[OperatingPoint]:
    """Points of falling threshold and rising rate; thresholds never rise with the rate.

    Args:
        ambient_peaks: Peak scores of the keyword in all ambient audio.
        hours: Length of that audio.
        scores: Of the trials that the false reject rates are about, in any one condition.
        weights: One per trial.
    """
    tail = Tail.fit(ambient_peaks, hours)
    rates = sorted({*(per_day / HOURS_PER_DAY for per_day in RATES_PER_DAY), 1 / hours})
    points: list[OperatingPoint] = []
    lowest = 1.0
    for rate in rates:
        if tail and rate * hours <= tail.peaks:
            threshold, interval = tail.threshold(rate), tail.interval(rate)
        else:
            threshold = metrics.threshold_at(ambient_peaks, hours, rate)
            interval = metrics.rate_interval(math.floor(rate * hours + 1e-9), hours)
        lowest = min(lowest, rounded_up(threshold))
        points.append(
            OperatingPoint(
                threshold=lowest,
                false_accepts_per_hour=_short(rate),
                false_reject_rate=round(metrics.false_reject_rate(scores, lowest, weights), 4),
                low_per_hour=_short(interval[0]),
                high_per_hour=_short(interval[1]),
                is_extrapolated=rate < (1 - 1e-9) / hours,
            )
        )
    return points


def counted_threshold(ambient_peaks: Sequence[float], hours: float, per_hour: float) -> float:
    """As `metrics.threshold_at`, rounded as in a manifest, so that both count the same."""
    return rounded_up(metrics.threshold_at(ambient_peaks, hours, per_hour))


def rounded_up(threshold: float) -> float:
    """As a manifest shows it; rounded up, so that no further peak passes."""
    scale = 10.0**THRESHOLD_DIGITS
    return min(1.0, math.ceil(threshold * scale) / scale)


def _short(rate: float) -> float:
    return float(np.format_float_positional(rate, precision=4, fractional=False))

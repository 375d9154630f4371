"""How often a model fails, in the field's words. Pure functions on arrays.

* **Trial**: one spoken keyword. Its score is the highest peak of that keyword's score in the hit
  window (see `kws.evaluate.stream`), 0 without a peak.
* **False reject**: a trial whose score is below the threshold. FRR = false rejects / trials.
* **False accept**: a peak of at least the threshold in audio that holds no keyword. Peaks are at least a
  second apart, so this is what a detector with a refractory period of one second would report.
* **Balanced**: copies of one recording share one vote, recordings of one speaker share one vote, and every
  speaker has one. Twenty clips of one eager contributor then weigh as much as the single clip of another.

Intervals hold 95 %. Those of the FRR take the threshold as given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws.scores import PEAK_FLOOR

CONFIDENCE = 0.95
Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
RESAMPLES = 2000
"""Bootstrap draws: enough for half a percent at the ends."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingRow:
    """One row of a detection error trade-off curve."""

    threshold: float
    """Lowest score that counts as heard."""
    false_accepts: int
    false_accepts_per_hour: float
    false_reject_rate: float


def threshold_at(ambient_peaks: ArrayLike, hours: float, fa_per_hour: float) -> float:
    """Smallest threshold that lets at most `fa_per_hour * hours` ambient peaks through.

    Args:
        ambient_peaks: Peak scores of one keyword over all ambient audio, (n,), any order.
        hours: Length of that audio.
        fa_per_hour: Allowed false accepts per hour.

    Returns:
        A float32 value: just above the first peak that must not pass, or `PEAK_FLOOR` if all may. It exceeds
        1 when a peak of exactly 1 must not pass.
    """
    scores = np.sort(np.asarray(ambient_peaks, np.float32))[::-1]
    allowed = math.floor(fa_per_hour * hours + 1e-9)  # 0.1 * 30 is 3, whatever binary fractions say
    if len(scores) <= allowed:
        return PEAK_FLOOR
    return max(PEAK_FLOOR, float(np.nextafter(scores[allowed], np.float32(2))))


def false_accepts(ambient_peaks: ArrayLike, threshold: float) -> int:
    """Number of ambient peaks that reach the threshold."""
    return int(np.count_nonzero(np.asarray(ambient_peaks, np.float32) >= np.float32(threshold)))


def false_reject_rate(scores: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float:
    """Share of the trials, 0..1, whose score is below the threshold; NaN without trials.

    Args:
        scores: One per trial, (n,).
        threshold: Lowest score that counts as heard.
        weights: One per trial, (n,), as from `balanced_weights`; None counts every trial once.
    """
    rejected = np.asarray(scores, np.float32) < np.float32(threshold)
    if not len(rejected):
        return math.nan
    return float(np.average(rejected, weights=None if weights is None else np.asarray(weights)))


def balanced_weights(speakers: Sequence[str], recordings: Sequence[str]) -> Floats:
    """Weight of each trial, (n,), summing to 1: equal speakers, of equal recordings, of equal copies.

    Args:
        speakers: Who speaks, one per trial.
        recordings: Which recording it is a copy of, one per trial; equal names of two speakers are different.
    """
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    pairs = np.asarray([f"{s}\0{r}" for s, r in zip(speakers, recordings, strict=True)])
    _, first, recording = np.unique(pairs, return_index=True, return_inverse=True)
    copies = np.bincount(recording)
    recordings_of_speaker = np.bincount(speaker[first])
    weights: Floats = 1 / (copies[recording] * recordings_of_speaker[speaker] * len(recordings_of_speaker))
    return weights


def speaker_rates(
    scores: ArrayLike, threshold: float, speakers: Sequence[str], recordings: Sequence[str]
) -> Floats:
    """False reject rate of each speaker, (speakers,); their mean is the balanced FRR."""
    rejected = np.asarray(scores, np.float32) < np.float32(threshold)
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    share = balanced_weights(speakers, recordings) * len(names)
    return np.bincount(speaker, weights=share * rejected, minlength=len(names)).astype(np.float64)


def bootstrap_means(rates: Floats, seed: int = 0) -> Floats:
    """Mean of `rates` in `RESAMPLES` draws of as many speakers with replacement, (RESAMPLES,)."""
    drawn = np.random.default_rng(seed).integers(len(rates), size=(RESAMPLES, len(rates)))
    means: Floats = rates[drawn].mean(axis=1)
    return means


def percentile_interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def wilson_interval(events: float, trials: int) -> tuple[float, float]:
    """Interval of a share, `events` of `trials`; (0, 1) without trials. Weighted events may be fractional."""
    if not trials:
        return 0.0, 1.0
    share, z2 = events / trials, Z * Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def poisson_interval(count: int) -> tuple[float, float]:
    """Exact (Garwood) interval of the expected number of events when `count` were seen."""
    tail = (1 - CONFIDENCE) / 2
    high = _solve(lambda mean: _poisson_cdf(count, mean) - tail, count)
    low = _solve(lambda mean: _poisson_cdf(count - 1, mean) - (1 - tail), count) if count else 0.0
    return low, high


def rate_interval(count: int, hours: float) -> tuple[float, float]:
    """Exact interval of events per hour."""
    low, high = poisson_interval(count)
    return low / hours, high / hours


def trade_off(
    scores: ArrayLike, ambient_peaks: ArrayLike, hours: float, weights: ArrayLike | None = None
) -> list[OperatingRow]:
    """The whole curve, from no false accept to all: the best FRR that each possible count allows."""
    peaks = np.asarray(ambient_peaks, np.float32)
    distinct = np.unique(peaks)[::-1]
    thresholds = [float(np.nextafter(peak, np.float32(2))) for peak in distinct if peak >= PEAK_FLOOR]
    return [operating_row(scores, peaks, hours, t, weights) for t in [*thresholds, PEAK_FLOOR]]


def operating_row(
    scores: ArrayLike,
    ambient_peaks: ArrayLike,
    hours: float,
    threshold: float,
    weights: ArrayLike | None = None,
) -> OperatingRow:
    """What one threshold costs and buys."""
    count = false_accepts(ambient_peaks, threshold)
    return OperatingRow(threshold, count, count / hours, false_reject_rate(scores, threshold, weights))


def _poisson_cdf(count: int, mean: float) -> float:
    """P(X <= count) of a Poisson variable."""
    return math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(count + 1))


def _solve(falling: Callable[[float], float], count: int) -> float:
    """The positive mean at which a falling function is zero, by bisection."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2

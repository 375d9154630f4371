"""Operating points: how often a word may be heard wrongly, as a threshold.

A user can say "one false accept a day", nobody can say "0.93". The manifest of a measured model holds a few
points of the trade-off per keyword (`kws.evaluate.curve` makes them). Between two points the logit of the
threshold is linear in the logarithm of the rate, which is how the tail of the scores behaves. Outside the
points nothing is invented: the last one is taken, and the answer says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kws.errors import ConfigError
from kws.manifest import DetectorSettings, Manifest, OperatingPoint

HOURS_PER_DAY = 24
HIGHEST_THRESHOLD = 1 - 1e-6
"""A threshold of 1 has no logit, and no score would reach it."""

Rates = float | Mapping[str, float]
"""False accepts per day: of every keyword, or of those named."""


@dataclass(frozen=True)
class Setting:
    """One keyword's threshold for a wanted rate, and what is known about it."""

    keyword: str
    per_day: float
    """False accepts per day that the threshold stands for: the wanted ones, or the end of the curve."""
    wanted_per_day: float
    threshold: float
    false_reject_rate: float
    """Missed share of the spoken keywords, 0..1, in the condition of the manifest's curve."""
    per_day_interval: tuple[float, float] | None
    """95 % interval of `per_day`."""
    is_extrapolated: bool
    """The measured hours hold less than one such false accept: the tail of the scores was prolonged."""

    def __str__(self) -> str:
        """In words: "alexa: 1 a day -> threshold 0.930, misses 4 %"."""
        digits = max(2, math.ceil(1 - math.log10(1 - self.threshold)))  # 0.93, but 0.99957
        return (
            f"{self.keyword}: {self.per_day:.3g} a day -> threshold {self.threshold:.{digits}f}, "
            f"misses {100 * self.false_reject_rate:.0f} %"
        )


def parse_rates(text: str, keywords: Sequence[str]) -> dict[str, float]:
    """Read "1" (every keyword), "alexa=0.5,computer=2" (these), or both: "1,computer=2".

    Returns:
        False accepts per day of each keyword named.

    Raises:
        ConfigError: an unknown keyword, or a rate that is no number above 0.
    """
    rates: dict[str, float] = {}
    for item in sorted(text.split(","), key=lambda item: "=" in item):  # what is said of all comes first
        name, _, number = item.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            raise ConfigError(
                f"{number.strip()!r} is no number of false accepts per day; try 1, or alexa=0.5"
            )
        rates |= dict.fromkeys([name.strip()] if "=" in item else keywords, rate)
    _refuse_unknown(rates, keywords)
    return rates


def settings_at(manifest: Manifest, rates: Rates) -> list[Setting]:
    """The threshold of each keyword that has a wanted rate, in the manifest's order.

    Raises:
        ConfigError: an unknown keyword, or one whose curve was not measured.
    """
    wanted = rates if isinstance(rates, Mapping) else dict.fromkeys(manifest.keywords, rates)
    _refuse_unknown(wanted, manifest.keywords)
    found = []
    for keyword in manifest.keywords:
        if keyword in wanted:
            curve = _usable(manifest.operating_curve.get(keyword, ()))
            if not curve:
                raise ConfigError(
                    f"{manifest.name} has no operating curve of {keyword!r}; run kws evaluate --update, "
                    "or leave false_accepts_per_day out"
                )
            found.append(_setting(keyword, wanted[keyword], curve))
    return found


def measured_spans(manifest: Manifest) -> dict[str, tuple[float, float]]:
    """Of each keyword with an operating curve the lowest and the highest false accepts per day on it."""
    curves = {keyword: _usable(curve) for keyword, curve in manifest.operating_curve.items()}
    return {
        keyword: (
            HOURS_PER_DAY * curve[0].false_accepts_per_hour,
            HOURS_PER_DAY * curve[-1].false_accepts_per_hour,
        )
        for keyword, curve in curves.items()
        if curve
    }


def detector_settings(manifest: Manifest, rates: Rates | None) -> DetectorSettings:
    """The manifest's detector with the thresholds of wanted rates; keywords without one keep theirs."""
    if rates is None:
        return manifest.detector
    changed = {setting.keyword: setting.threshold for setting in settings_at(manifest, rates)}
    return replace(manifest.detector, thresholds=manifest.detector.thresholds | changed)


def explain(manifest: Manifest, rates: Rates | None) -> list[str]:
    """A line for each threshold that wanted rates set: what it costs, and how well that is known."""
    if rates is None:
        return []
    hours = (manifest.evaluation or {}).get("ambient_hours")
    return ["; ".join(filter(None, (str(s), _caveat(s, hours)))) for s in settings_at(manifest, rates)]


def logit(share: float) -> float:
    """ln(share / (1 - share)), finite also for 1."""
    share = min(share, HIGHEST_THRESHOLD)
    return math.log(share / (1 - share))


def from_logit(value: float) -> float:
    """The threshold of a logit, at most `HIGHEST_THRESHOLD`."""
    return min(HIGHEST_THRESHOLD, 1 / (1 + math.exp(-value)))


def _setting(keyword: str, wanted_per_day: float, curve: list[OperatingPoint]) -> Setting:
    rates = [point.false_accepts_per_hour for point in curve]
    rate = min(max(wanted_per_day / HOURS_PER_DAY, rates[0]), rates[-1])
    right = max(1, next(i for i, r in enumerate(rates) if rate <= r)) if curve[1:] else 0
    a, b = curve[max(0, right - 1)], curve[right]
    span = math.log(b.false_accepts_per_hour / a.false_accepts_per_hour)
    share = math.log(rate / a.false_accepts_per_hour) / span if span else 0.0

    def between(first: float, second: float) -> float:
        return first + share * (second - first)

    reached = math.isclose(rate * HOURS_PER_DAY, wanted_per_day, rel_tol=1e-3)  # a manifest rounds
    return Setting(
        keyword=keyword,
        per_day=wanted_per_day if reached else rate * HOURS_PER_DAY,
        wanted_per_day=wanted_per_day,
        threshold=from_logit(between(logit(a.threshold), logit(b.threshold))),
        false_reject_rate=between(a.false_reject_rate, b.false_reject_rate),
        per_day_interval=_interval(a, b, share),
        is_extrapolated=b.is_extrapolated or (a.is_extrapolated and rate < b.false_accepts_per_hour),
    )


def _interval(a: OperatingPoint, b: OperatingPoint, share: float) -> tuple[float, float] | None:
    """Per day, that `share` of the way from one point to the next."""
    ends = (a.low_per_hour, b.low_per_hour), (a.high_per_hour, b.high_per_hour)
    found = [
        HOURS_PER_DAY * (first + share * (second - first))
        for first, second in ends
        if first is not None and second is not None
    ]
    return (found[0], found[1]) if found[1:] else None


def _usable(curve: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """By rising rate; a point without any false accept says nothing about how rare they are."""
    points = [point for point in curve if point.false_accepts_per_hour > 0]
    return sorted(points, key=lambda point: point.false_accepts_per_hour)


def _caveat(setting: Setting, hours: float | None) -> str:
    """What a user must know before trusting a setting; empty when it was simply measured."""
    if setting.per_day != setting.wanted_per_day:
        return (
            f"{setting.wanted_per_day:g} a day lies outside the measured curve, "
            f"which ends at {setting.per_day:.3g} a day"
        )
    if not setting.is_extrapolated:
        return ""
    measured = f"measured on {hours:.1f} h: " if hours else ""
    low, high = setting.per_day_interval or (0.0, math.inf)
    return f"{measured}{setting.per_day:g} a day is an extrapolation (95 %: {low:.2g} to {high:.2g} a day)"


def _refuse_unknown(rates: Mapping[str, float], keywords: Sequence[str]) -> None:
    for keyword in rates:
        if keyword not in keywords:
            raise ConfigError(f"the model does not know {keyword!r}; it hears: {', '.join(keywords)}")

"""False rejects as figures: of keywords and of their mean, balanced over speakers, with intervals.

Real recordings and synthetic speech are never mixed. What a keyword is judged by, its "tested" group, are its
real recordings; a keyword that nobody has recorded is judged by synthetic speech, and every table says so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kws.evaluate import metrics
from kws.evaluate.stream import Trial

Plain = dict[str, Any]
"""Plain data: what JSON can hold."""

REAL, SYNTHETIC = "real", "synthetic"

Thresholds = Mapping[str, Mapping[float, float]]
"""Keyword -> false accepts per hour -> threshold."""


class Trials:
    """The trials of one record, by keyword, group, channel and condition."""

    def __init__(self, trials: Iterable[Trial], keywords: Sequence[str]) -> None:
        self.keywords = tuple(keywords)
        self._sorted: dict[tuple[str, str, str, str], list[Trial]] = defaultdict(list)
        for trial in trials:
            self._sorted[trial.keyword, group_of(trial), trial.channel, trial.condition].append(trial)

    def groups(self, keyword: str) -> list[str]:
        """Real, then synthetic, as far as somebody says the keyword."""
        return sorted({group for said, group, _, _ in self._sorted if said == keyword})

    def tested(self, keyword: str) -> str | None:
        """The group that a keyword is judged by; None when nobody says it."""
        return next(iter(self.groups(keyword)), None)

    def conditions(self, channel: str = "") -> list[str]:
        """Of that channel, in the order in which they were played."""
        return list(dict.fromkeys(condition for _, _, c, condition in self._sorted if c == channel))

    def channels(self) -> list[str]:
        """In the order in which they were played; "" is the recording as it is."""
        return list(dict.fromkeys(channel for _, _, channel, _ in self._sorted))

    def of(self, keyword: str, condition: str, channel: str = "", group: str | None = None) -> list[Trial]:
        """One keyword's trials; without a group those that it is judged by."""
        return self._sorted.get((keyword, group or self.tested(keyword) or "", channel, condition), [])


def level_name(level: float) -> str:
    """An operating point as JSON and tables name it: false accepts per hour, "0.5"."""
    return f"{level:g}"


def group_of(trial: Trial) -> str:
    """Real recordings are never mixed with synthetic speech."""
    return SYNTHETIC if trial.clip.kind == "synthetic" else REAL


def weights(trials: Sequence[Trial]) -> metrics.Floats:
    """Balanced weights (n,)."""
    return metrics.balanced_weights([t.speaker for t in trials], [t.recording for t in trials])


def speaker_rates(trials: Sequence[Trial], threshold: float) -> metrics.Floats:
    """False reject rate of each speaker."""
    return metrics.speaker_rates(
        [t.score for t in trials], threshold, [t.speaker for t in trials], [t.recording for t in trials]
    )


def recordings_of(trials: Iterable[Trial]) -> int:
    """Distinct recordings: copies and mixes count once."""
    return len({(t.speaker, t.recording) for t in trials})


def false_rejects(trials: Sequence[Trial], thresholds: Mapping[float, float]) -> Plain:
    """Figures of one keyword in one condition: balanced over speakers, and counted by recording."""
    return {
        "trials": len(trials),
        "recordings": recordings_of(trials),
        "speakers": len({t.speaker for t in trials}),
        "at": {level_name(level): rejects_at(trials, threshold) for level, threshold in thresholds.items()},
    }


def rejects_at(trials: Sequence[Trial], threshold: float) -> Plain:
    """Figures of one keyword in one condition at one threshold."""
    recordings = recordings_of(trials)
    rates = speaker_rates(trials, threshold)
    rate = float(rates.mean())
    low, high = _interval(rate, metrics.bootstrap_means(rates), recordings)
    equal = metrics.balanced_weights([""] * len(trials), [f"{t.speaker}/{t.recording}" for t in trials])
    by_recording = metrics.false_reject_rate([t.score for t in trials], threshold, equal)
    wilson_low, wilson_high = metrics.wilson_interval(by_recording * recordings, recordings)
    delays_ms = [1000 * delay for t in trials if (delay := t.latency_s(threshold)) is not None]
    return {
        "rate": rate,
        "low": low,
        "high": high,
        "by_recording": {"rate": by_recording, "low": wilson_low, "high": wilson_high},
        "latency_ms": {f"p{p}": float(np.percentile(delays_ms, p)) for p in (50, 95)} if delays_ms else None,
    }


def mean_rejects(heard: Sequence[tuple[Sequence[Trial], float]]) -> Plain:
    """The mean over keywords of their balanced rates; of each keyword its trials and threshold."""
    rates = [speaker_rates(trials, threshold) for trials, threshold in heard]
    draws = [metrics.bootstrap_means(rate, seed) for seed, rate in enumerate(rates)]
    mean = float(np.mean([rate.mean() for rate in rates]))
    recordings = sum(recordings_of(trials) for trials, _ in heard)
    low, high = _interval(mean, np.mean(draws, axis=0), recordings)
    return {"rate": mean, "low": low, "high": high, "keywords": len(heard)}


def means(trials: Trials, thresholds: Thresholds, levels: Iterable[float]) -> Plain:
    """Group -> condition -> operating point -> mean over the keywords.

    The groups "real" and "synthetic" need all keywords: a mean over some of them would not compare. "tested"
    takes of each keyword the group that it is judged by.
    """
    result: Plain = defaultdict(lambda: defaultdict(dict))
    for group in (REAL, SYNTHETIC, None):
        for condition in trials.conditions():
            heard = {k: found for k in trials.keywords if (found := trials.of(k, condition, group=group))}
            if not heard or (group and len(heard) < len(trials.keywords)):
                continue
            for level in levels:
                result[group or "tested"][condition][level_name(level)] = mean_rejects(
                    [(found, thresholds[k][level]) for k, found in heard.items()]
                )
    return {group: dict(conditions) for group, conditions in result.items()}


def robustness(trials: Trials, thresholds: Thresholds, level: float) -> list[Plain]:
    """Every channel and condition at one operating point, by keyword and mean; empty when none was played.

    The recordings as they are come first, for comparison.
    """
    if len(trials.channels()) < 2:
        return []
    conditions = trials.conditions(trials.channels()[1])
    rows = []
    for channel in trials.channels():
        for condition in conditions:
            heard = {k: f for k in trials.keywords if (f := trials.of(k, condition, channel))}
            if heard:
                rows.append(
                    {
                        "channel": channel or "as recorded",
                        "condition": condition,
                        "keywords": {k: rejects_at(f, thresholds[k][level]) for k, f in heard.items()},
                        "mean": mean_rejects([(f, thresholds[k][level]) for k, f in heard.items()]),
                    }
                )
    return rows


def _interval(rate: float, draws: metrics.Floats, recordings: int) -> tuple[float, float]:
    """That of resampled speakers, but no narrower than if every recording were of someone else.

    Resampling alone would be certain of a rate of 0.
    """
    low, high = metrics.percentile_interval(draws)
    wilson_low, wilson_high = metrics.wilson_interval(rate * recordings, recordings)
    return min(low, wilson_low), max(high, wilson_high)

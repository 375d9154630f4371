"""From what was heard to figures: one dictionary of plain numbers that JSON, tables and model card share.

A threshold belongs to a keyword and a rate of false accepts on the ambient audio; every condition is judged
at those thresholds. Figures of real recordings and of synthetic speech are never mixed.
"""

import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws import config
from kws.evaluate import metrics
from kws.evaluate.curve import operating_curve, rounded_up
from kws.evaluate.playlist import EvaluationSettings
from kws.evaluate.stream import CLEAN, Record, Trial

Plain = dict[str, Any]
"""Plain data: what JSON can hold."""

LOUDEST = 20
"""Highest ambient peaks that are listed by name, so that someone can listen to them."""


def headline_condition(settings: EvaluationSettings) -> str:
    """The condition that ranks models: the first noisy one, or clean where none is played."""
    return f"{settings.snr_db[0]:g} dB" if settings.snr_db else CLEAN


def summarise(record: Record, keywords: Sequence[str], settings: EvaluationSettings) -> Plain:
    """All figures of one network.

    Returns:
        ``ambient``: hours in all and by kind. ``keywords``: of each its operating points, false rejects (by
        group "real" or "synthetic", condition, operating point) and curve. ``mean``: balanced false reject
        rates averaged over the keywords. ``phrases``: accepts of other words by source. ``loudest``: the
        highest ambient peaks. ``unreadable``: clips that could not be played.
    """
    hours = sum(record.ambient_seconds.values()) / 3600
    levels = settings.false_accepts_per_hour
    peaks = {k: [peak.score for peak in record.peaks if peak.keyword == k] for k in keywords}
    thresholds = {k: {level: _threshold(peaks[k], hours, level) for level in levels} for k in keywords}
    trials: dict[tuple[str, str, str], list[Trial]] = defaultdict(list)
    for trial in record.trials:
        trials[trial.keyword, _group(trial), trial.condition].append(trial)
    summary: Plain = {
        "ambient": {
            "hours": round(hours, 4),
            "by_kind": {kind: round(s / 3600, 4) for kind, s in sorted(record.ambient_seconds.items())},
        },
        "keywords": {},
        "mean": _means(trials, keywords, thresholds, settings),
        "phrases": _phrases(record, {k: thresholds[k][settings.calibrated_at] for k in keywords}),
        "loudest": _loudest(record),
        "unreadable": record.unreadable,
    }
    for keyword in keywords:
        rejects: Plain = defaultdict(dict)
        for (said, group, condition), those in sorted(trials.items(), key=lambda item: item[0]):
            if said == keyword:
                rejects[group][condition] = _false_rejects(those, thresholds[keyword])
        headline = trials[keyword, "real", headline_condition(settings)]
        summary["keywords"][keyword] = {
            "operating_points": {
                level_name(level): _operating_point(record, keyword, hours, threshold)
                for level, threshold in thresholds[keyword].items()
            },
            "false_rejects": dict(rejects),
            "curve": _curve(headline, peaks[keyword], hours),
        }
    return summary


def trade_off_curves(
    record: Record, keywords: Sequence[str], settings: EvaluationSettings
) -> dict[str, list[metrics.OperatingRow]]:
    """Per keyword, the whole error trade-off over real recordings in the headline condition."""
    hours = sum(record.ambient_seconds.values()) / 3600
    condition, curves = headline_condition(settings), {}
    for keyword in keywords:
        trials = [
            t
            for t in record.trials
            if t.keyword == keyword and _group(t) == "real" and t.condition == condition
        ]
        peaks = [peak.score for peak in record.peaks if peak.keyword == keyword]
        curves[keyword] = metrics.trade_off([t.score for t in trials], peaks, hours, _weights(trials))
    return curves


def commit() -> str:
    """The checkout that this program runs from, marked when it has uncommitted changes."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed wheel has no repository
    return found.stdout.strip()


def _group(trial: Trial) -> str:
    return "synthetic" if trial.clip.kind == "synthetic" else "real"


def level_name(level: float) -> str:
    """An operating point as JSON and tables name it: false accepts per hour, "0.5"."""
    return f"{level:g}"


def _threshold(peaks: Sequence[float], hours: float, level: float) -> float:
    """As `metrics.threshold_at`, rounded as in a manifest, so that both count the same."""
    return rounded_up(metrics.threshold_at(peaks, hours, level))


def _weights(trials: Sequence[Trial]) -> metrics.Floats:
    return metrics.balanced_weights([t.speaker for t in trials], [t.recording for t in trials])


def _false_rejects(trials: Sequence[Trial], thresholds: dict[float, float]) -> Plain:
    """Figures of one keyword in one condition: balanced over speakers, and counted by recording."""
    recordings = len({(t.speaker, t.recording) for t in trials})
    return {
        "trials": len(trials),
        "recordings": recordings,
        "speakers": len({t.speaker for t in trials}),
        "at": {
            level_name(level): _rejects_at(trials, threshold, recordings)
            for level, threshold in thresholds.items()
        },
    }


def _rejects_at(trials: Sequence[Trial], threshold: float, recordings: int) -> Plain:
    scores = [t.score for t in trials]
    speakers, names = [t.speaker for t in trials], [t.recording for t in trials]
    rates = metrics.speaker_rates(scores, threshold, speakers, names)
    rate = float(rates.mean())
    low, high = _interval(rate, metrics.bootstrap_means(rates), recordings)
    equal = metrics.balanced_weights([""] * len(trials), [f"{t.speaker}/{t.recording}" for t in trials])
    by_recording = metrics.false_reject_rate(scores, threshold, equal)
    wilson_low, wilson_high = metrics.wilson_interval(by_recording * recordings, recordings)
    delays_ms = [1000 * delay for t in trials if (delay := t.latency_s(threshold)) is not None]
    return {
        "rate": rate,
        "low": low,
        "high": high,
        "by_recording": {"rate": by_recording, "low": wilson_low, "high": wilson_high},
        "latency_ms": {f"p{p}": float(np.percentile(delays_ms, p)) for p in (50, 95)} if delays_ms else None,
    }


def _interval(rate: float, draws: metrics.Floats, recordings: int) -> tuple[float, float]:
    """That of resampled speakers, but no narrower than if every recording were of someone else.

    Resampling alone would be certain of a rate of 0.
    """
    low, high = metrics.percentile_interval(draws)
    wilson_low, wilson_high = metrics.wilson_interval(rate * recordings, recordings)
    return min(low, wilson_low), max(high, wilson_high)


def _means(
    trials: dict[tuple[str, str, str], list[Trial]],
    keywords: Sequence[str],
    thresholds: dict[str, dict[float, float]],
    settings: EvaluationSettings,
) -> Plain:
    """Balanced rates averaged over the keywords: group -> condition -> operating point."""
    means: Plain = defaultdict(lambda: defaultdict(dict))
    for group, condition in sorted({(group, condition) for _, group, condition in trials}):
        heard = {k: trials[k, group, condition] for k in keywords if (k, group, condition) in trials}
        if len(heard) < len(keywords):
            continue  # a mean over some of the keywords would not compare
        for level in settings.false_accepts_per_hour:
            rates = [
                metrics.speaker_rates(
                    [t.score for t in those],
                    thresholds[k][level],
                    [t.speaker for t in those],
                    [t.recording for t in those],
                )
                for k, those in heard.items()
            ]
            draws = [metrics.bootstrap_means(rate, seed) for seed, rate in enumerate(rates)]
            mean = float(np.mean([rate.mean() for rate in rates]))
            recordings = sum(len({(t.speaker, t.recording) for t in those}) for those in heard.values())
            low, high = _interval(mean, np.mean(draws, axis=0), recordings)
            means[group][condition][level_name(level)] = {"rate": mean, "low": low, "high": high}
    return {group: dict(conditions) for group, conditions in means.items()}


def _operating_point(record: Record, keyword: str, hours: float, threshold: float) -> Plain:
    accepted = [p for p in record.peaks if p.keyword == keyword and p.score >= np.float32(threshold)]
    low, high = metrics.rate_interval(len(accepted), hours)
    return {
        "threshold": threshold,
        "false_accepts": len(accepted),
        "per_hour": len(accepted) / hours,
        "low": low,
        "high": high,
        "by_kind": dict(sorted(Counter(p.clip.kind for p in accepted).items())),
    }


def _curve(trials: Sequence[Trial], peaks: Sequence[float], hours: float) -> list[Plain]:
    """For the manifest; empty where nobody says the keyword."""
    points = operating_curve(peaks, hours, [t.score for t in trials], _weights(trials)) if trials else []
    return [config.dump(point) for point in points]


def _phrases(record: Record, thresholds: dict[str, float]) -> Plain:
    """Per source: phrases played, and accepts of each keyword."""
    by_source = defaultdict(list)
    for phrase in record.phrases:
        by_source[phrase.clip.source].append(phrase)
    result: Plain = {}
    for source, phrases in sorted(by_source.items()):
        accepts = {
            keyword: sum(bool(p.scores[keyword] >= np.float32(threshold)) for p in phrases)
            for keyword, threshold in thresholds.items()
        }
        per_1000 = 1000 * sum(accepts.values()) / len(phrases)
        result[source] = {"phrases": len(phrases), "accepts": accepts, "per_1000": per_1000}
    return result


def _loudest(record: Record) -> list[Plain]:
    highest = sorted(record.peaks, key=lambda peak: -peak.score)[:LOUDEST]
    return [
        {
            "score": peak.score,
            "keyword": peak.keyword,
            "kind": peak.clip.kind,
            "clip": f"{peak.clip.source}/{peak.clip.path.name}",
            "time_s": round(peak.time_s, 2),
        }
        for peak in highest
    ]
